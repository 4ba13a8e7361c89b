"""From keyword arguments to ``llama_model_params``, and from there to a loaded model."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from ggml_backend cimport ggml_backend_dev_buffer_type, ggml_backend_dev_by_name
from libc.stdint cimport int64_t
from libc.stdio cimport FILE, fclose
from libc.string cimport memset, strncpy
from libcpp cimport bool
from libcpp.vector cimport vector
from llama cimport (
    LLAMA_KV_OVERRIDE_TYPE_BOOL,
    LLAMA_KV_OVERRIDE_TYPE_FLOAT,
    LLAMA_KV_OVERRIDE_TYPE_INT,
    LLAMA_KV_OVERRIDE_TYPE_STR,
    LLAMA_LOAD_MODE_AUTO,
    LLAMA_LOAD_MODE_NONE,
    LLAMA_SPLIT_MODE_TENSOR,
    import_llama_cy,
    llama_lazy_mode,
    llama_load_mode,
    llama_max_devices,
    llama_max_tensor_buft_overrides,
    llama_model,
    llama_model_default_params,
    llama_model_kv_override,
    llama_model_load_from_file,
    llama_model_load_from_file_ptr,
    llama_model_load_from_splits,
    llama_model_tensor_buft_override,
    llama_split_mode,
    llama_supports_gpu_offload,
    llama_time_us,
)

from llama_cy.abort cimport check_devices
from llama_cy.file_pointer cimport file_pointer
from llama_cy.handle cimport ModelHandle
from llama_cy.lifetime cimport check_exit, enter_native, exiting, leave_native, start_backends

import errno
import os
import stat
from collections.abc import Mapping

from . import log
from ._llama import llama_cpp_commit
from .checks import INT32_MAX, choice, each, fill, flag, integer, real
from .device_choice import choose_devices, devices_to_spread_over
from .devices import Device, devices
from .enums import LazyMode, LoadMode, SplitMode
from .errors import BackendError, ModelLoadError
from .gguf_check import check_model, check_parts, check_position_bias, check_splits, overridden

import_llama_cy()

cdef extern from *:
    """
    #include <regex>
    static void llama_cy_check_regex(const char * pattern) { std::regex checked(pattern); }
    """
    void llama_cy_check_regex(const char * pattern) except +

cdef int64_t SIGNAL_INTERVAL_US = 20_000
# Tensors in a mapped file must lie so.
MAP_ALIGNMENT = 32
# A longer expression might take more stack than there is.
MAX_PATTERN = 1000


@cython.final
cdef class LoadProgress:
    """What the C progress callback needs for the length of a load."""

    cdef bool report(self, float progress) noexcept with gil:
        try:
            PyErr_CheckSignals()
            if self.callback is not None:
                self.callback(progress)
        except BaseException as error:
            self.error = error
            return False
        return True


cdef bool on_progress(float progress, void * user_data) noexcept nogil:
    # Tensors come by the thousand; Python needs to hear of them a few times a second only.
    cdef int64_t now = llama_time_us()
    cdef int64_t * checked_us = &(<LoadProgress> user_data).checked_us
    if progress < 1 and now - checked_us[0] < SIGNAL_INTERVAL_US:
        return True
    checked_us[0] = now
    if exiting():
        # A thread that asked for the GIL now might be ended inside of C++.
        return False
    return (<LoadProgress> user_data).report(progress)


cdef inline int put_string(char * target, object text, str name, int least) except -1:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be str, not {type(text).__name__}")
    data = text.encode("utf-8")
    if not least <= len(data) <= 127 or b"\0" in data:
        raise ValueError(f"{name} {text!r} is {len(data)} bytes; {least} to 127 without NUL are allowed")
    strncpy(target, data, 128)
    return 0


cdef int fill_overrides(object overrides, vector[llama_model_kv_override] & out) except -1:
    cdef llama_model_kv_override item
    if overrides is not None and not isinstance(overrides, Mapping):
        raise TypeError(f"kv_overrides must be a mapping, not {type(overrides).__name__}")
    for key, value in (overrides or {}).items():
        memset(&item, 0, sizeof(item))
        put_string(item.key, key, "kv_overrides key", 1)
        if isinstance(value, type(True)):
            item.tag = LLAMA_KV_OVERRIDE_TYPE_BOOL
            item.val_bool = value
        elif isinstance(value, int):
            item.tag = LLAMA_KV_OVERRIDE_TYPE_INT
            item.val_i64 = integer(f"kv_overrides[{key!r}]", value, -2**63, 2**63 - 1)
        elif isinstance(value, float):
            item.tag = LLAMA_KV_OVERRIDE_TYPE_FLOAT
            item.val_f64 = value
        elif isinstance(value, str):
            item.tag = LLAMA_KV_OVERRIDE_TYPE_STR
            put_string(item.val_str, value, f"kv_overrides[{key!r}]", 0)
        else:
            raise TypeError(f"kv_overrides[{key!r}] must be bool, int, float or str, not {type(value).__name__}")
        out.push_back(item)
    if not out.empty():
        # C finds the end by an empty key.
        memset(&item, 0, sizeof(item))
        out.push_back(item)
    return 0


def readable(name, what="model"):
    """Return the path as bytes for C, or raise the ModelLoadError that says what is wrong with the file."""
    data = os.fsencode(name)
    if b"\0" in data:
        raise ValueError(f"path {name!r} contains a NUL character")
    magic = None
    try:
        mode = os.stat(data).st_mode
        # Opening a pipe would wait for its other end.
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            with open(data, "rb") as file:
                magic = file.read(4)
    except OSError as error:
        failure = ModelLoadError(f"cannot open the {what} {name!r}: {error.strerror}", code=error.errno)
        failure.errno, failure.filename, failure.strerror = error.errno, name, error.strerror
        raise failure from None
    if magic == b"GGUF":
        return data
    if magic is None:
        found = "is no regular file"
    else:
        found = f"starts with {magic!r}, not with b'GGUF'" if magic else "is empty"
    failure = ModelLoadError(f"not a GGUF file: {name!r} {found}", code=errno.EINVAL)
    failure.errno, failure.filename = errno.EINVAL, name
    raise failure


@cython.final
cdef class LoadParams:
    """``llama_model_params`` and the arrays it points to."""

    def __init__(self, n_gpu_layers, params):
        self.c = llama_model_default_params()
        given = fill(
            {
                "split_mode": self.c.split_mode, "main_gpu": self.c.main_gpu, "tensor_split": None,
                "load_mode": self.c.load_mode, "lazy_mode": self.c.lazy_mode, "kv_overrides": None,
                "vocab_only": False, "check_tensors": False, "use_extra_bufts": self.c.use_extra_bufts,
                "no_host": False, "load_mtp": self.c.load_mtp, "device": "auto",
                "tensor_buft_overrides": None,
            },
            params, "Model",
        )  # fmt: skip
        self.place(given["device"])
        self.c.n_gpu_layers = gpu_layers(n_gpu_layers, given["device"])
        self.c.split_mode = <llama_split_mode> <int> choice("split_mode", SplitMode, given["split_mode"])
        self.spread = devices_to_spread_over(given["device"]) if self.c.split_mode == LLAMA_SPLIT_MODE_TENSOR else ()
        self.c.load_mode = <llama_load_mode> <int> choice("load_mode", LoadMode, given["load_mode"])
        self.c.lazy_mode = <llama_lazy_mode> <int> choice("lazy_mode", LazyMode, given["lazy_mode"])
        self.c.main_gpu = integer("main_gpu", given["main_gpu"], -1, llama_max_devices() - 1)
        self.c.vocab_only = flag("vocab_only", given["vocab_only"])
        self.c.check_tensors = flag("check_tensors", given["check_tensors"])
        self.c.use_extra_bufts = flag("use_extra_bufts", given["use_extra_bufts"])
        self.c.no_host = flag("no_host", given["no_host"])
        self.c.load_mtp = flag("load_mtp", given["load_mtp"])
        overrides = given["kv_overrides"]
        self.given_overrides = dict(overrides) if isinstance(overrides, Mapping) else overrides
        fill_overrides(self.given_overrides, self.overrides)
        if not self.overrides.empty():
            self.c.kv_overrides = self.overrides.data()
        self.patterns = []
        self.add_buft_overrides(given["tensor_buft_overrides"])
        if given["tensor_split"] is not None:
            for share in each("tensor_split", given["tensor_split"]):
                self.split.push_back(real("tensor_split", share, 0.0))
            if self.split.size() > llama_max_devices():
                raise ValueError(f"tensor_split has {self.split.size()} shares; the limit is {llama_max_devices()}")
            if self.c.devices is not NULL and self.split.size() != self.devices.size() - 1:
                raise ValueError(
                    f"tensor_split has {self.split.size()} shares for {self.devices.size() - 1} devices")
            self.split.resize(llama_max_devices())
            self.c.tensor_split = self.split.data()

    cdef int place(self, object device) except -1:
        """Name the devices for C, which ends their list with a null pointer."""
        chosen = choose_devices(device)
        if chosen is None:
            return 0
        for one in chosen:
            name = one.name.encode("utf-8")
            self.devices.push_back(ggml_backend_dev_by_name(name))
        self.devices.push_back(NULL)
        self.c.devices = self.devices.data()
        return 0

    cdef int add_buft_overrides(self, object overrides) except -1:
        """Choose by name where tensors go; C finds the end of the list by a null pointer."""
        cdef llama_model_tensor_buft_override item
        if overrides is None:
            return 0
        if not isinstance(overrides, Mapping):
            raise TypeError(f"tensor_buft_overrides must be a mapping, not {type(overrides).__name__}")
        if len(overrides) >= <Py_ssize_t> llama_max_tensor_buft_overrides():
            raise ValueError(
                f"tensor_buft_overrides has {len(overrides)} patterns; {llama_max_tensor_buft_overrides() - 1} are allowed")
        for pattern, where in overrides.items():
            if not isinstance(pattern, str):
                raise TypeError(f"a pattern of tensor_buft_overrides must be str, not {type(pattern).__name__}")
            data = pattern.encode("utf-8")
            if not 1 <= len(data) <= MAX_PATTERN or b"\0" in data:
                raise ValueError(f"tensor_buft_overrides: {pattern[:80]!r} is {len(data)} bytes; 1 to {MAX_PATTERN} without NUL are allowed")
            self.patterns.append(data)
            item.pattern = data
            try:
                llama_cy_check_regex(item.pattern)
            except RuntimeError as error:
                raise ValueError(f"tensor_buft_overrides: a regular expression is expected, not {pattern!r}: {error}") from None
            if not isinstance(where, (str, Device)):
                raise TypeError(
                    f"tensor_buft_overrides[{pattern!r}] must be a str or a Device, not {type(where).__name__}")
            found = choose_devices(where)
            if found is None or len(found) > 1:
                raise ValueError(f"tensor_buft_overrides[{pattern!r}] is {where!r}; one device is expected")
            name = found[0].name.encode("utf-8") if found else b"CPU"
            item.buft = ggml_backend_dev_buffer_type(ggml_backend_dev_by_name(name))
            self.buft_overrides.push_back(item)
        item.pattern = NULL
        item.buft = NULL
        self.buft_overrides.push_back(item)
        self.c.tensor_buft_overrides = self.buft_overrides.data()
        return 0

    cdef int try_first(self, object path) except -1:
        """Load a file that nobody trusts in a child process."""
        # Of what must not be there, NaN is found among the tensors' data only.
        self.c.check_tensors = True
        from .trial import try_in_child

        try_in_child(path, {
            "device": "cpu", "kv_overrides": self.given_overrides, "vocab_only": self.c.vocab_only, "check_tensors": True,
            "use_extra_bufts": self.c.use_extra_bufts, "load_mtp": self.c.load_mtp,
        })  # fmt: skip
        return 0

    cdef object look(self, file, str name, start):
        """Look at a file before llama.cpp does."""
        header = check_model(file, name, start=start, overrides=self.given_overrides, vocab_only=self.c.vocab_only)
        prefix = f"{header.values.get('general.architecture')}."
        values = overridden(header, self.given_overrides or {})
        self.hyperparameters = {key[len(prefix):]: value for key, value in values.items() if key.startswith(prefix)}
        return header

    cdef int look_at_all(self, list headers) except -1:
        """Look at what only all files of a model together show."""
        if not self.c.vocab_only:
            check_position_bias(headers, overridden(headers[0], self.given_overrides or {}))
        return 0

    cdef LoadProgress begin(self, object callback):
        cdef LoadProgress state = LoadProgress()
        start_backends()
        check_devices(self.c.n_gpu_layers != 0)
        state.callback = callback
        self.c.progress_callback = on_progress
        self.c.progress_callback_user_data = <void *> state
        log.begin()
        return state

    cdef ModelHandle end(self, llama_model * ptr, object error, str name):
        """Own what was loaded, or raise what kept it from that."""
        cdef ModelHandle handle = None if ptr is NULL else ModelHandle.own(ptr)
        if error is not None:
            raise error
        if handle is None:
            check_exit()
            raise load_failure(name)
        handle.offloaded = handle.offloaded and self.c.n_gpu_layers != 0
        handle.computed_on_gpu = handle.computed_on_gpu and (self.c.devices is NULL or self.c.devices[0] is not NULL)
        handle.spread, handle.may_rearrange = self.spread, self.c.use_extra_bufts
        handle.hyperparameters = self.hyperparameters
        log.flush()
        return handle

    cdef ModelHandle from_file(self, str name, object callback, bint trusted):
        cdef bytes data = readable(name)
        cdef const char * c_path = data
        cdef llama_model * ptr
        with open(data, "rb") as file:
            header = self.look(file, name, 0)
        self.look_at_all(check_splits(header, data))
        if not trusted:
            self.try_first(name)
        cdef LoadProgress state = self.begin(callback)
        enter_native()
        try:
            with nogil:
                ptr = llama_model_load_from_file(c_path, self.c)
        finally:
            leave_native()
        return self.end(ptr, state.error, name)

    cdef ModelHandle from_splits(self, list names, object callback, bint trusted):
        cdef list paths = [readable(name) for name in names]
        cdef vector[const char *] c_paths
        cdef llama_model * ptr
        cdef bytes path
        for path in paths:
            c_paths.push_back(path)
        with open(paths[0], "rb") as file:
            header = self.look(file, names[0], 0)
        self.look_at_all(check_parts(header, names))
        if not trusted:
            self.try_first(names)
        cdef LoadProgress state = self.begin(callback)
        enter_native()
        try:
            with nogil:
                ptr = llama_model_load_from_splits(c_paths.data(), c_paths.size(), self.c)
        finally:
            leave_native()
        return self.end(ptr, state.error, names[0])

    cdef ModelHandle from_descriptor(self, int fd, object position, str name, object callback, bint trusted):
        cdef llama_model * ptr
        cdef FILE * file
        with open(os.dup(fd), "rb") as opened:
            header = self.look(opened, name, position)
            if header.values.get("split.count", 0):
                raise header.failure("it is one file of several; give the paths of all in a list")
            self.look_at_all([header])
            if not trusted:
                import shutil
                import tempfile

                opened.seek(position)
                # By its name Windows opens no temporary file that is open already.
                with tempfile.TemporaryDirectory() as folder:
                    copy = os.path.join(folder, "copy.gguf")
                    with open(copy, "wb") as written:
                        shutil.copyfileobj(opened, written)
                    self.try_first(copy)
        if self.c.load_mode == LLAMA_LOAD_MODE_AUTO and (position + header.data_start) % MAP_ALIGNMENT:
            # Where it stands in the larger file, its tensors can't be used in place.
            self.c.load_mode = LLAMA_LOAD_MODE_NONE
        cdef LoadProgress state = self.begin(callback)
        os.lseek(fd, position, os.SEEK_SET)
        file = file_pointer(fd)
        enter_native()
        try:
            with nogil:
                ptr = llama_model_load_from_file_ptr(file, self.c)
        finally:
            leave_native()
            fclose(file)
        return self.end(ptr, state.error, name)


def gpu_layers(value, device="auto"):
    """Turn "auto" or a number into the number of layers for C; a BackendError where there is no GPU for them."""
    on_cpu = isinstance(device, str) and device.casefold() == "cpu" or getattr(device, "name", None) == "CPU"
    if value == "auto":
        return -1 if llama_supports_gpu_offload() and not on_cpu else 0
    layers = integer("n_gpu_layers", value, -1, INT32_MAX)
    if layers != 0 and on_cpu:
        raise BackendError(f'n_gpu_layers is {layers} but device is "cpu"')
    if layers != 0 and not llama_supports_gpu_offload():
        present = ", ".join(device.name for device in devices())
        raise BackendError(f'n_gpu_layers is {layers} but there is no GPU; present: {present}. Pass "auto" or 0')
    return layers


def load_failure(name):
    """Describe a failed load with llama.cpp's own last words."""
    lines = log.tail()
    reason = f"cannot load the model {name!r}"
    if any("unknown model architecture" in line for line in lines):
        reason += f"; this build has llama.cpp {llama_cpp_commit()[:9]}, a newer one may know the architecture"
    return ModelLoadError(reason, log=lines)

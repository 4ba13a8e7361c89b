"""From one model file to a smaller one."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from ggml cimport ggml_blck_size, ggml_row_size, ggml_type
from libc.stdint cimport int32_t, uint32_t
from libc.string cimport memset, strncmp
from libcpp cimport bool
from libcpp.vector cimport vector
from llama cimport (
    import_llama_cy,
    llama_ftype,
    llama_model_imatrix_data,
    llama_model_kv_override,
    llama_model_quantize,
    llama_model_quantize_default_params,
    llama_model_quantize_params,
    llama_model_tensor_override,
)

from llama_cy.lifetime cimport check_exit, enter_native, exiting, generation, leave_native
from llama_cy.loading cimport fill_overrides

import os
import re
from pathlib import Path

from . import _llama, log
from .checks import flag, integer
from .enums import GGMLType
from .errors import LlamaError
from .gguf_check import check_model, check_position_bias, check_splits, overridden
from .loading import readable
from .progress import reporter
from .quantize_plan import (
    EMBEDDINGS,
    Quantization,
    QuantizedTensor,
    check_alignment,
    check_imatrix,
    check_overrides,
    check_plan,
    check_weights,
    check_written,
    file_type,
    in_want,
    patterns,
    pruned,
    renamed,
    target_type,
)
from .whole_file import whole_file

import_llama_cy()

ctypedef bool (*see_function)(void * data, const char * text) noexcept nogil
ctypedef void (*read_log_function)(see_function see, void * data) noexcept nogil

cdef read_log_function read_log = <read_log_function> PyCapsule_GetPointer(
    _llama._read_log, "llama_cy._llama._read_log")

BEGIN = re.compile(r"\[ *\d+/ *\d+\] (\S+) +- \[")
TYPE = re.compile(r"size = .* \((\w+)\)\n")


@cython.final
cdef class Lines:
    """What llama.cpp says of each tensor: the only way to know how far it is, and a place to stop it."""
    cdef list types
    cdef object callback
    cdef object error
    # Bytes of the tensors, to tell how far the work is.
    cdef list sizes
    cdef size_t begun
    cdef int generation

    cdef bool see(self, const char * text) noexcept with gil:
        try:
            line = text.decode("utf-8", "replace")
            match = BEGIN.match(line)
            if match:
                PyErr_CheckSignals()
                if self.callback is not None and self.sizes:
                    self.callback(sum(self.sizes[:self.begun]) / max(1, sum(self.sizes)))
                    if self.generation != generation():
                        raise LlamaError("this process was forked meanwhile: the file is written in the other one")
                self.begun += 1
                self.types.append([match[1], None])
            else:
                match = TYPE.match(line)
                if match and self.types:
                    self.types[-1][1] = match[1]
        except BaseException as error:
            self.error = error
            return False
        return True


cdef bool on_line(void * data, const char * text) noexcept nogil:
    # A throw must pass through nothing but llama.cpp's own loop, which says these lines.
    if text[0] != b"[" and strncmp(text, "size = ", 7) != 0:
        return True
    return not exiting() and (<Lines> data).see(text)


@cython.final
cdef class QuantizeParams:
    """``llama_model_quantize_params`` and the arrays it points to."""
    cdef llama_model_quantize_params c
    cdef vector[llama_model_imatrix_data] imatrix
    cdef vector[llama_model_kv_override] overrides
    cdef vector[llama_model_tensor_override] types
    cdef vector[int32_t] layers
    # What the pointers point into.
    cdef list kept

    cdef object run(self, bytes source, bytes target, Lines lines):
        cdef const char * c_source = source
        cdef const char * c_target = target
        cdef uint32_t status
        log.begin()
        enter_native()
        read_log(on_line, <void *> lines)
        try:
            with nogil:
                status = llama_model_quantize(c_source, c_target, &self.c)
        finally:
            read_log(NULL, NULL)
            leave_native()
        if lines.error is not None:
            raise lines.error
        if status != 0:
            check_exit()
            raise LlamaError("llama_model_quantize failed", code=status, log=log.tail())
        log.flush()


cdef QuantizeParams prepare(object ftype, object imatrix, object overrides, object types, object layers, object given):
    cdef QuantizeParams params = QuantizeParams.__new__(QuantizeParams)
    cdef llama_model_imatrix_data weights
    cdef llama_model_tensor_override override
    cdef const float[::1] view
    params.kept = []
    params.c = llama_model_quantize_default_params()
    params.c.ftype = <llama_ftype> <int> ftype
    for name, array in imatrix.items():
        data = name.encode("utf-8")
        view = array
        weights.name, weights.data, weights.size = data, &view[0], array.size
        params.kept.append((data, array))
        params.imatrix.push_back(weights)
    memset(&weights, 0, sizeof(weights))
    params.imatrix.push_back(weights)
    if imatrix:
        params.c.imatrix = params.imatrix.data()
    fill_overrides(overrides, params.overrides)
    if not params.overrides.empty():
        params.c.kv_overrides = params.overrides.data()
    for pattern, kind in types.items():
        data = pattern.encode("utf-8")
        override.pattern, override.type = data, <ggml_type> <int> kind
        params.kept.append(data)
        params.types.push_back(override)
    override.pattern = NULL
    params.types.push_back(override)
    if types:
        params.c.tt_overrides = params.types.data()
    for layer in layers:
        params.layers.push_back(layer)
    params.layers.push_back(-1)
    if layers:
        params.c.prune_layers = params.layers.data()
    if given["n_threads"] is not None:
        params.c.nthread = integer("n_threads", given["n_threads"], 1, 512)
    if given["output_tensor_type"] is not None:
        params.c.output_tensor_type = <ggml_type> <int> target_type("output_tensor_type", given["output_tensor_type"])
    if given["token_embedding_type"] is not None:
        params.c.token_embedding_type = <ggml_type> <int> target_type(
            "token_embedding_type", given["token_embedding_type"])
    params.c.allow_requantize = flag("allow_requantize", given["allow_requantize"])
    params.c.quantize_output_tensor = flag("quantize_output_tensor", given["quantize_output_tensor"])
    params.c.only_copy = flag("only_copy", given["only_copy"])
    params.c.pure = flag("pure", given["pure"])
    params.c.keep_split = flag("keep_split", given["keep_split"])
    params.c.max_buf_size = integer("max_buf_size", given["max_buf_size"], 0, 2**62)
    return params


cdef int check_fixed(QuantizeParams params, object tensors, object given) except -1:
    """Refuse types that rows can't be divided into; those chosen otherwise fall back to another."""
    for key, names in (("output_tensor_type", ("output.weight",)), ("token_embedding_type", EMBEDDINGS)):
        if given[key] is None:
            continue
        kind = target_type(key, given[key])
        block = ggml_blck_size(<ggml_type> <int> kind)
        for name in names:
            if name in tensors and tensors[name].dims[0] % block:
                raise ValueError(
                    f"{key} is {kind.name}, in blocks of {block}; the rows of {name} have {tensors[name].dims[0]} values")
    return 0


cdef object planned(Lines lines, object ftype, object names, object tensors, object imatrix):
    rows = []
    for name, kind in lines.types:
        info = tensors[names[name]]
        before = GGMLType(info.kind)
        after = before if kind is None else GGMLType[kind.upper()]
        n_dims = max([1] + [i + 1 for i in range(4) if info.dims[i] != 1])
        n_rows = info.dims[1] * info.dims[2] * info.dims[3]
        nbytes = info.size if after == before else n_rows * ggml_row_size(<ggml_type> <int> after, info.dims[0])
        rows.append(QuantizedTensor(name, tuple(reversed(info.dims[:n_dims])), before, after, info.size, nbytes))
    plan = Quantization((), ftype, tuple(rows), ())
    return plan._replace(without_imatrix=in_want(plan, imatrix, names))


def quantize(
    src, dst=None, ftype="Q4_K_M", *, imatrix=None, kv_overrides=None, tensor_types=None, prune_layers=None, dry_run=False,
    progress=None, n_threads=None, output_tensor_type=None, token_embedding_type=None, allow_requantize=False,
    quantize_output_tensor=True, pure=False, only_copy=False, keep_split=False, max_buf_size=0
):
    """Write a model in another type, usually a smaller one.

    Wraps ``llama_model_quantize`` and ``llama_model_quantize_default_params``.

    The file appears under its name when it is complete, and not at all after a failure or Ctrl-C; both are noticed at
    the next tensor. The GIL is released.

    Parameters
    ----------
    src : path-like
        A GGUF file, or the first of several.
    dst : path-like, optional
        What to write; an existing file is replaced. Needed unless `dry_run`.
    ftype : Ftype or str
        The mixture of types, for example ``"Q4_K_M"``, ``"q8_0"`` or ``"F16"``.
    imatrix : ImportanceMatrix or mapping of str to array, optional
        How much each input of a matrix matters: float32 of as many values as the rows of the tensor have, times the
        experts. Types below three bits need it.
    kv_overrides : mapping of str to bool, int, float or str, optional
        Metadata to write; whole numbers from 0 to 2**32-1.
    tensor_types : mapping of str to GGMLType or str, optional
        Types by regular expression (ECMAScript); the first that is found in a tensor's name counts. For quantized `ftype`
        only.
    prune_layers : iterable of int, optional
        Layers to leave out.
    dry_run : bool
        Only tell what would become of the tensors.
    progress : callable or bool, optional
        Called with the share done, or True for a bar.
    n_threads : int, optional
        As many as the machine has unless given.
    output_tensor_type, token_embedding_type : GGMLType or str, optional
        Types of these two.
    allow_requantize : bool
        Whether tensors that are quantized already may be quantized again, which loses more than it should.
    quantize_output_tensor : bool
        Whether the output matrix is quantized, too.
    pure : bool
        Whether all tensors get the same type, without the mixture.
    only_copy : bool
        Whether the tensors stay as they are, for the sake of `kv_overrides` or to join several files.
    keep_split : bool
        Whether to write as many files as there are in `src`; `dst` is what their names begin with.
    max_buf_size : int
        Bytes of a tensor kept in memory at once; 0 for 8 GiB.

    Returns
    -------
    Quantization
        Type and size of each tensor, before and after.

    Raises
    ------
    ModelLoadError
        `src` can't be read.
    ValueError
        Something can't be quantized as asked for; nothing was written.
    LlamaError
        llama.cpp failed; its last words are in ``log``.
    OSError
        The new file could not be written whole.
    """
    given = {
        "n_threads": n_threads, "output_tensor_type": output_tensor_type, "token_embedding_type": token_embedding_type,
        "allow_requantize": allow_requantize, "quantize_output_tensor": quantize_output_tensor, "pure": pure,
        "only_copy": only_copy, "keep_split": keep_split, "max_buf_size": max_buf_size,
    }  # fmt: skip
    name = os.fsdecode(src)
    cdef bytes source = readable(name)
    wanted = file_type(ftype)
    types = patterns(tensor_types)
    check_overrides(kv_overrides)
    cdef bint dry = flag("dry_run", dry_run)
    if not dry and dst is None:
        raise TypeError("dst is missing; it may be left out of a dry run only")
    target = None if dst is None else Path(os.fsdecode(dst))
    with open(source, "rb") as file:
        header = check_model(file, name, overrides=dict(kv_overrides or {}))
    headers = check_splits(header, source)
    check_position_bias(headers, overridden(header, kv_overrides or {}))
    check_alignment(headers)
    tensors = {key: info for one in headers for key, info in one.tensors.items()}
    layers = pruned(prune_layers, header)
    names = renamed(layers, tensors)
    weights = check_imatrix(imatrix, tensors)
    cdef QuantizeParams c_params = prepare(wanted, weights, kv_overrides, types, layers, given)
    check_fixed(c_params, tensors, given)
    if c_params.c.keep_split:
        left = set(names.values())
        for one in headers[1:]:
            if not left & one.tensors.keys():
                raise ValueError(f"keep_split can't be used: {one.name!r} would have no tensors")
    if target is not None:
        others = [Path(one.name) for one in headers]
        if target.exists() and any(one.exists() and target.samefile(one) for one in others):
            raise ValueError(f"dst is {str(target)!r}, which is read at the same time")

    cdef Lines lines = Lines()
    lines.types, lines.sizes = [], []
    c_params.c.dry_run = True
    # It says nothing of what it needs an importance matrix for, nor of what it can't read.
    c_params.run(source, b"", lines)
    plan = planned(lines, wanted, names, tensors, weights)
    if dry:
        return plan
    check_plan(plan, c_params.c.allow_requantize)
    check_weights(plan, headers, names)
    c_params.c.dry_run = False
    with reporter(progress, f"Quantizing {os.path.basename(name)}") as callback, whole_file(target) as part:
        lines = Lines()
        lines.types, lines.callback, lines.generation = [], callback, generation()
        lines.sizes = [tensor.nbytes_before for tensor in plan.tensors]
        c_params.run(source, os.fsencode(part), lines)
        written = sorted(part.parent.iterdir())
        for one in written:
            check_written(one)
        if callback is not None:
            callback(1.0)
    return plan._replace(paths=tuple(target.with_name(one.name) for one in written))

"""What a model says of itself."""

from libc.stdint cimport uint32_t
from libcpp.vector cimport vector
from llama cimport (
    LLAMA_TOKEN_NULL,
    import_llama_cy,
    llama_model,
    llama_model_chat_template,
    llama_model_cls_label,
    llama_model_decoder_start_token,
    llama_model_desc,
    llama_model_ftype,
    llama_model_has_decoder,
    llama_model_has_encoder,
    llama_model_is_diffusion,
    llama_model_is_hybrid,
    llama_model_is_recurrent,
    llama_model_meta_count,
    llama_model_meta_key,
    llama_model_meta_key_by_index,
    llama_model_meta_key_str,
    llama_model_meta_val_str,
    llama_model_meta_val_str_by_index,
    llama_model_n_cls_out,
    llama_model_n_ctx_train,
    llama_model_n_embd,
    llama_model_n_embd_inp,
    llama_model_n_embd_out,
    llama_model_n_head,
    llama_model_n_head_kv,
    llama_model_n_layer,
    llama_model_n_layer_nextn,
    llama_model_n_params,
    llama_model_n_swa,
    llama_model_rope_freq_scale_train,
    llama_model_rope_type,
    llama_model_size,
)

from .enums import Ftype, ModelMetaKey, RopeType
from .errors import ClosedError

import_llama_cy()


cdef class ModelFacts:
    """The part of :class:`Model` that only reads."""

    cdef llama_model * ptr(self) except NULL:
        if self.handle is None:
            raise ClosedError("the model is closed")
        return self.handle.alive()

    @property
    def metadata(self):
        """Scalar metadata of the file, a dict of str to str.

        Wraps ``llama_model_meta_count``, ``llama_model_meta_key_by_index`` and ``llama_model_meta_val_str_by_index``.
        """
        cdef llama_model * ptr = self.ptr()
        cdef vector[char] buffer
        cdef int i, n
        result = {}
        buffer.resize(256)
        for i in range(llama_model_meta_count(ptr)):
            n = llama_model_meta_key_by_index(ptr, i, buffer.data(), buffer.size())
            if n >= <int> buffer.size():
                buffer.resize(n + 1)
                llama_model_meta_key_by_index(ptr, i, buffer.data(), buffer.size())
            key = buffer.data()[:n].decode("utf-8", "replace")
            n = llama_model_meta_val_str_by_index(ptr, i, buffer.data(), buffer.size())
            if n >= <int> buffer.size():
                buffer.resize(n + 1)
                llama_model_meta_val_str_by_index(ptr, i, buffer.data(), buffer.size())
            result[key] = buffer.data()[:n].decode("utf-8", "replace")
        return result

    def meta_val_str(self, key):
        """Return one value of the metadata, or None where there is no such key.

        Wraps ``llama_model_meta_val_str`` and ``llama_model_meta_key_str``.

        Parameters
        ----------
        key : str or ModelMetaKey
            A member of the enum stands for the key of a sampling parameter that the model's authors recommend.

        Returns
        -------
        str or None
        """
        cdef llama_model * ptr = self.ptr()
        cdef vector[char] buffer
        if isinstance(key, ModelMetaKey):
            data = llama_model_meta_key_str(<llama_model_meta_key> <int> key)
        elif isinstance(key, str):
            data = key.encode("utf-8")
        else:
            raise TypeError(f"key must be str or ModelMetaKey, not {type(key).__name__}")
        if b"\0" in data:
            return None
        cdef const char * c_key = data
        buffer.resize(256)
        cdef int n = llama_model_meta_val_str(ptr, c_key, buffer.data(), buffer.size())
        if n < 0:
            return None
        if n >= <int> buffer.size():
            buffer.resize(n + 1)
            llama_model_meta_val_str(ptr, c_key, buffer.data(), buffer.size())
        return buffer.data()[:n].decode("utf-8", "replace")

    def chat_template(self, name=None):
        """Return the Jinja chat template of the file, or None. Wraps ``llama_model_chat_template``.

        Parameters
        ----------
        name : str, optional
            A named template; by default the main one.
        """
        cdef llama_model * ptr = self.ptr()
        cdef const char * text
        if name is None:
            text = llama_model_chat_template(ptr, NULL)
        elif not isinstance(name, str):
            raise TypeError(f"name must be str, not {type(name).__name__}")
        else:
            data = name.encode("utf-8")
            text = llama_model_chat_template(ptr, data)
        return None if text is NULL else text.decode("utf-8", "replace")

    @property
    def desc(self):
        """Architecture, size and quantization in a few words. Wraps ``llama_model_desc``."""
        cdef char buffer[256]
        cdef int n = llama_model_desc(self.ptr(), buffer, 256)
        return buffer[:min(n, 255)].decode("utf-8", "replace")

    @property
    def ftype(self):
        """Quantization of the file, an :class:`Ftype`, or an int where this build has no name for it.

        Wraps ``llama_model_ftype``.
        """
        number = <int> llama_model_ftype(self.ptr())
        return Ftype(number) if number in Ftype._value2member_map_ else number

    @property
    def n_params(self):
        """Number of parameters. Wraps ``llama_model_n_params``."""
        return llama_model_n_params(self.ptr())

    @property
    def size(self):
        """Bytes of all tensors. Wraps ``llama_model_size``."""
        return llama_model_size(self.ptr())

    @property
    def n_ctx_train(self):
        """Context length it was trained with, in tokens. Wraps ``llama_model_n_ctx_train``."""
        return llama_model_n_ctx_train(self.ptr())

    @property
    def n_embd(self):
        """Width of the hidden state. Wraps ``llama_model_n_embd``."""
        return llama_model_n_embd(self.ptr())

    @property
    def n_embd_inp(self):
        """Width of an input embedding. Wraps ``llama_model_n_embd_inp``."""
        return llama_model_n_embd_inp(self.ptr())

    @property
    def n_embd_out(self):
        """Width of an output embedding. Wraps ``llama_model_n_embd_out``."""
        return llama_model_n_embd_out(self.ptr())

    @property
    def n_layer(self):
        """Number of layers. Wraps ``llama_model_n_layer``."""
        return llama_model_n_layer(self.ptr())

    @property
    def n_layer_nextn(self):
        """Number of multi-token-prediction layers. Wraps ``llama_model_n_layer_nextn``."""
        return llama_model_n_layer_nextn(self.ptr())

    cdef bint has_layers(self) except -1:
        """Whether there is a first layer to ask: the assert of llama.cpp would end the process."""
        cdef llama_model * ptr = self.ptr()
        return not self.vocab_only and llama_model_n_layer(ptr) + llama_model_n_layer_nextn(ptr) > 0

    @property
    def n_head(self):
        """Attention heads of the first layer, 0 without weights. Wraps ``llama_model_n_head``."""
        return llama_model_n_head(self.ptr()) if self.has_layers() else 0

    @property
    def n_head_kv(self):
        """Key-value heads of the first layer, 0 without weights. Wraps ``llama_model_n_head_kv``."""
        return llama_model_n_head_kv(self.ptr()) if self.has_layers() else 0

    @property
    def n_swa(self):
        """Sliding window in tokens, 0 without one. Wraps ``llama_model_n_swa``."""
        return llama_model_n_swa(self.ptr())

    @property
    def rope_type(self):
        """Variant of rotary embedding, a :class:`RopeType`. Wraps ``llama_model_rope_type``."""
        return RopeType(<int> llama_model_rope_type(self.ptr()))

    @property
    def rope_freq_scale_train(self):
        """RoPE frequency scale it was trained with. Wraps ``llama_model_rope_freq_scale_train``."""
        return llama_model_rope_freq_scale_train(self.ptr())

    @property
    def cls_labels(self):
        """Labels of the classifier outputs, None where one has no label.

        Wraps ``llama_model_n_cls_out`` and ``llama_model_cls_label``.
        """
        cdef llama_model * ptr = self.ptr()
        cdef uint32_t i
        cdef const char * label
        labels = []
        for i in range(llama_model_n_cls_out(ptr)):
            label = llama_model_cls_label(ptr, i)
            labels.append(None if label is NULL else label.decode("utf-8", "replace"))
        return tuple(labels)

    @property
    def has_encoder(self):
        """Whether :meth:`Context.encode` comes before decoding. Wraps ``llama_model_has_encoder``."""
        return llama_model_has_encoder(self.ptr())

    @property
    def has_decoder(self):
        """Whether it can decode. Wraps ``llama_model_has_decoder``."""
        return llama_model_has_decoder(self.ptr())

    @property
    def decoder_start_token(self):
        """First token for the decoder of an encoder-decoder model, else None.

        Wraps ``llama_model_decoder_start_token``.
        """
        token = llama_model_decoder_start_token(self.ptr())
        return None if token == LLAMA_TOKEN_NULL else token

    @property
    def is_recurrent(self):
        """Whether its memory is a state (Mamba, RWKV) and no cache. Wraps ``llama_model_is_recurrent``."""
        return llama_model_is_recurrent(self.ptr())

    @property
    def is_hybrid(self):
        """Whether it mixes attention and recurrent layers. Wraps ``llama_model_is_hybrid``."""
        return llama_model_is_hybrid(self.ptr())

    @property
    def is_diffusion(self):
        """Whether it denoises whole texts. Wraps ``llama_model_is_diffusion``."""
        return llama_model_is_diffusion(self.ptr())

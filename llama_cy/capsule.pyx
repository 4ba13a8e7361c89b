"""Native objects that cross between Python and C or C++, in capsules with the names of their types."""

cimport cython
from cpython.pycapsule cimport (
    PyCapsule_CheckExact,
    PyCapsule_GetContext,
    PyCapsule_GetDestructor,
    PyCapsule_GetName,
    PyCapsule_GetPointer,
    PyCapsule_IsValid,
    PyCapsule_New,
    PyCapsule_SetContext,
    PyCapsule_SetDestructor,
    PyCapsule_SetName,
)
from cpython.ref cimport Py_DECREF, Py_INCREF
from llama cimport (
    LLAMA_CY_CONTEXT_CAPSULE,
    LLAMA_CY_MODEL_CAPSULE,
    LLAMA_CY_SAMPLER_CAPSULE,
    LLAMA_CY_VOCAB_CAPSULE,
    import_llama_cy,
    llama_model,
    llama_sampler,
)

from llama_cy.context cimport Context
from llama_cy.handle cimport ModelHandle
from llama_cy.model cimport Model
from llama_cy.sampler cimport Sampler
from llama_cy.sampler_failure cimport tell_failure, tell_kept
from llama_cy.vocab cimport Vocab

import_llama_cy()

cdef const char * TAKEN = "llama_cy.taken"


@cython.final
cdef class Lease:
    """What a capsule of ours holds: an object, kept alive, and kept to itself if one user at a time is the rule."""

    cdef object held
    cdef Context context
    cdef Sampler sampler

    cdef void end(self) noexcept:
        if self.context is not None:
            # What its outputs and its memory are now, only the borrower knows.
            self.context.epoch += 1
            self.context.n_rows = 0
            self.context.shown = NULL
            self.context.encoded = False
            self.context.shift_deferred = self.context.copy_deferred = self.context.bounded
            try:
                self.context.resume()
            except BaseException as error:
                # What a callback raised while C computed.
                tell_failure(error, self.context)
            self.context.leave()
        if self.sampler is not None:
            # Nobody knows what it accepted meanwhile, or what was added.
            self.sampler.picker.plan.distrust(b"the sampler was lent to C")
            self.sampler.leave()
            tell_kept(self.sampler)
        self.held = self.context = self.sampler = None


cdef void let_go(object capsule) noexcept:
    cdef void * lease = PyCapsule_GetContext(capsule)
    if lease is not NULL:
        (<Lease> lease).end()
        Py_DECREF(<object> lease)


cdef object wrap(void * ptr, const char * name, Lease lease):
    capsule = PyCapsule_New(ptr, name, let_go)
    PyCapsule_SetContext(capsule, <void *> lease)
    Py_INCREF(lease)
    return capsule


cdef bint ours(object capsule):
    """Whether a capsule was made by :func:`to_capsule`."""
    return PyCapsule_GetDestructor(capsule) == let_go


def to_capsule(thing):
    """Wrap the C pointer of an object for C, C++ or Cython code that calls llama.cpp through the table.

    Parameters
    ----------
    thing : Model, Vocab, Context or Sampler
        The capsules are called ``llama_cy.llama_model``, ``.llama_vocab``, ``.llama_context`` and ``.llama_sampler``.

    Returns
    -------
    PyCapsule
        The pointer stays owned here and is valid while the capsule lives, whatever is closed meanwhile. Weights and
        vocabularies are shared. A context or a sampler is lent: until the capsule is gone, using it from Python is a
        :class:`ContextBusyError`, and a context takes nothing for granted afterwards.

    Raises
    ------
    ClosedError
    ContextBusyError
        Another thread uses it, or it is lent already.
    BufferError
        A view of the context's logits is in use.
    """
    cdef Lease lease = Lease()
    cdef ModelHandle handle
    if isinstance(thing, Model):
        (<Model> thing).ptr()
        lease.held = handle = (<Model> thing).handle
        return wrap(handle.alive(), LLAMA_CY_MODEL_CAPSULE, lease)
    if isinstance(thing, Vocab):
        (<Vocab> thing).check()
        lease.held = (<Vocab> thing).handle
        return wrap(<void *> (<Vocab> thing).ptr, LLAMA_CY_VOCAB_CAPSULE, lease)
    if isinstance(thing, Context):
        (<Context> thing).enter()
        lease.context = thing
        try:
            lease.context.check_exports("lend the context")
            return wrap(lease.context.ptr, LLAMA_CY_CONTEXT_CAPSULE, lease)
        except BaseException:
            lease.end()
            raise
    if isinstance(thing, Sampler):
        (<Sampler> thing).enter()
        lease.sampler = thing
        try:
            return wrap(lease.sampler.ptr, LLAMA_CY_SAMPLER_CAPSULE, lease)
        except BaseException:
            lease.end()
            raise
    raise TypeError(f"a Model, Vocab, Context or Sampler is expected, not {type(thing).__name__}")


def from_capsule(capsule):
    """Make an object of a capsule that C, C++ or Cython code gives.

    Parameters
    ----------
    capsule : PyCapsule
        ``llama_cy.llama_model``: the weights belong to the capsule, which is kept while any Model, Vocab or Context
        uses them and then let go; its destructor frees them or gives a share back, or does nothing where they outlive
        Python. ``llama_cy.llama_sampler``: the sampler moves here and is freed here, and the capsule is empty from
        then on.

    Returns
    -------
    Model or Sampler

    Raises
    ------
    TypeError
        Not a capsule, or one of something else. A context can't tell how it was made, so it can't come in this
        way: make one of the model.
    ValueError
        The capsule was emptied before, or lends what lives here.
    """
    if not PyCapsule_CheckExact(capsule):
        raise TypeError(f"a capsule is expected, not {type(capsule).__name__}")
    cdef const char * name = PyCapsule_GetName(capsule)
    cdef bytes found = b"" if name is NULL else name
    cdef llama_sampler * sampler
    cdef Sampler taken
    if PyCapsule_IsValid(capsule, LLAMA_CY_MODEL_CAPSULE):
        if ours(capsule):
            return Model(<ModelHandle> (<Lease> PyCapsule_GetContext(capsule)).held)
        return Model(ModelHandle.borrow(<llama_model *> PyCapsule_GetPointer(capsule, LLAMA_CY_MODEL_CAPSULE), capsule))
    if PyCapsule_IsValid(capsule, LLAMA_CY_SAMPLER_CAPSULE):
        if ours(capsule):
            raise ValueError("the capsule lends a Sampler that lives here: use that")
        sampler = <llama_sampler *> PyCapsule_GetPointer(capsule, LLAMA_CY_SAMPLER_CAPSULE)
        taken = Sampler.__new__(Sampler)
        PyCapsule_SetDestructor(capsule, NULL)
        PyCapsule_SetName(capsule, TAKEN)
        taken.own(sampler)
        return taken
    if found == TAKEN:
        raise ValueError("the capsule is empty: its sampler was taken before")
    if found == LLAMA_CY_CONTEXT_CAPSULE:
        raise TypeError("a context can't tell how it was made; make one of the model: from_capsule(model).context()")
    raise TypeError(
        f"the capsule holds {found.decode('utf-8', 'replace') or 'something without a name'}, "
        f"not {LLAMA_CY_MODEL_CAPSULE.decode()} or {LLAMA_CY_SAMPLER_CAPSULE.decode()}"
    )

"""What a context computes with beside its model."""

cimport cython

from llama_cy.outputs cimport Outputs


@cython.no_gc_clear
cdef class Attachments(Outputs):
    """The adapters, control vectors and samplers of a :class:`Context`."""

    def set_adapters(self, adapters):
        """Compute with these LoRA adapters, and no others, from the next decode on. Wraps ``llama_set_adapters_lora``.

        What is in memory stays as it was computed; a prompt is not taken for one that was decoded with other adapters.

        Parameters
        ----------
        adapters : mapping of LoraAdapter to float, iterable of pairs, or None
            Each with its scale, 1.0 where an iterable gives an adapter alone; None or nothing for the plain model.

        Raises
        ------
        ValueError
            An adapter was loaded for another model or is given twice, or a scale is not finite.
        """
        from .adapter import set_adapters

        set_adapters(self, adapters)

    @property
    def adapters(self):
        """The adapters it computes with, a dict of :class:`LoraAdapter` to scale."""
        from .adapter import adapters_of

        return adapters_of(self)

    def set_control_vectors(self, vectors, *, il_start=1, il_end=None):
        """Add these control vectors, and no others, to what the layers give. Wraps ``llama_set_adapter_cvec``.

        It begins with the next decode. What is in memory stays as it was computed; a prompt is not taken for one that was
        decoded with other control vectors.

        Parameters
        ----------
        vectors : ControlVector, mapping of ControlVector to float, iterable of pairs, or None
            Each with its scale, 1.0 where it is given alone; what they add is summed. None or nothing for the plain
            model.
        il_start, il_end : int
            The first and the last layer that they act on, in ``[1, n_layer - 1]``; all of them unless given.

        Raises
        ------
        ValueError
            A vector has more layers than the model, or directions of another size, or the sum is not finite.
        ContextError
            llama.cpp computes models of this architecture without control vectors.
        """
        from .cvec import set_control_vectors

        set_control_vectors(self, vectors, il_start, il_end)

    @property
    def control_vectors(self):
        """The control vectors it computes with, a list of pairs of :class:`ControlVector` and scale."""
        from .cvec import control_vectors_of

        return control_vectors_of(self)

    def set_sampler(self, seq_id, chain):
        """Let a chain sample a sequence where the model computes, from the next decode on. Wraps ``llama_set_sampler``.

        Those at its beginning that the backend can compute run there, the others in :meth:`Sampler.sample`, which takes
        what was sampled. A decode then has one output for the sequence, or `n_outputs_max_per_seq`. The loops
        (:meth:`generate`, :meth:`stream`, :meth:`complete`) take the chain of sequence 0 as their sampler, and no logits
        leave the device.

        Parameters
        ----------
        seq_id : int
        chain : SamplerChain or None
            Kept alive and busy until None or another chain takes its place, or the context is closed; then it samples on
            the CPU again, from the state that it has. `penalties` and `logit_bias` need `n_vocab`.

        Raises
        ------
        ValueError
            The chain is empty, has a chain in it, or is for another number of tokens.
        ContextBusyError
            Another context samples with it.
        ContextError
            llama.cpp can't.
        """
        from .backend_sampling import set_sampler

        set_sampler(self, seq_id, chain)

    @property
    def samplers(self):
        """The chains that sample on the backend, a dict of sequence to :class:`SamplerChain`."""
        from .backend_sampling import samplers_of

        return samplers_of(self)

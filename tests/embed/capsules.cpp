// A C++ extension that calls llama.cpp through the table and hands objects over in capsules, both ways.
#include "llama_cy_api.h"

#include <algorithm>
#include <memory>
#include <vector>

static int freed = 0;

// A model of ours: the capsule owns it.
static void free_model(PyObject * capsule) {
    llama_model_free(static_cast<llama_model *>(PyCapsule_GetPointer(capsule, LLAMA_CY_MODEL_CAPSULE)));
    freed++;
}

static PyObject * make_model(PyObject *, PyObject * args) {
    const char * path;
    int vocab_only = 0;
    if (!PyArg_ParseTuple(args, "s|p", &path, &vocab_only)) {
        return nullptr;
    }
    auto params = llama_model_default_params();
    params.vocab_only = vocab_only != 0;
    llama_model * model = llama_model_load_from_file(path, params);
    if (model == nullptr) {
        return PyErr_Format(PyExc_OSError, "%s", path);
    }
    return PyCapsule_New(model, LLAMA_CY_MODEL_CAPSULE, free_model);
}

static PyObject * count_freed(PyObject *, PyObject *) { return PyLong_FromLong(freed); }

static PyObject * n_tokens(PyObject *, PyObject * capsule) {
    auto * model = static_cast<llama_model *>(PyCapsule_GetPointer(capsule, LLAMA_CY_MODEL_CAPSULE));
    return model == nullptr ? nullptr : PyLong_FromLong(llama_vocab_n_tokens(llama_model_get_vocab(model)));
}

static PyObject * bos(PyObject *, PyObject * capsule) {
    auto * vocab = static_cast<const llama_vocab *>(PyCapsule_GetPointer(capsule, LLAMA_CY_VOCAB_CAPSULE));
    return vocab == nullptr ? nullptr : PyLong_FromLong(llama_vocab_bos(vocab));
}

// Greedy tokens after one token, on a context that Python lends, without the GIL.
static PyObject * greedy(PyObject *, PyObject * args) {
    PyObject * capsule;
    int token, count;
    if (!PyArg_ParseTuple(args, "Oii", &capsule, &token, &count)) {
        return nullptr;
    }
    auto * ctx = static_cast<llama_context *>(PyCapsule_GetPointer(capsule, LLAMA_CY_CONTEXT_CAPSULE));
    if (ctx == nullptr) {
        return nullptr;
    }
    std::vector<llama_token> found;
    int code = 0;
    Py_BEGIN_ALLOW_THREADS
    const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
    llama_memory_clear(llama_get_memory(ctx), true);
    llama_token next = token;
    for (int i = 0; i < count && code == 0; i++) {
        code = llama_decode(ctx, llama_batch_get_one(&next, 1));
        const float * logits = llama_get_logits_ith(ctx, -1);
        next = static_cast<llama_token>(std::max_element(logits, logits + n_vocab) - logits);
        found.push_back(next);
    }
    Py_END_ALLOW_THREADS
    if (code != 0) {
        return PyErr_Format(PyExc_RuntimeError, "llama_decode: %d", code);
    }
    PyObject * list = PyList_New(0);
    for (llama_token each : found) {
        PyObject * number = PyLong_FromLong(each);
        PyList_Append(list, number);
        Py_DECREF(number);
    }
    return list;
}

// A sampler in C: always the second most probable token.
static void second_apply(llama_sampler *, llama_token_data_array * candidates) {
    auto better = [](const llama_token_data & a, const llama_token_data & b) { return a.logit > b.logit; };
    std::partial_sort(candidates->data, candidates->data + 2, candidates->data + candidates->size, better);
    candidates->selected = 1;
}
static const char * second_name(const llama_sampler *) { return "second"; }
static void second_free(llama_sampler *) { freed++; }

static PyObject * make_sampler(PyObject *, PyObject *) {
    static llama_sampler_i iface = {};
    iface.name = second_name;
    iface.apply = second_apply;
    iface.free = second_free;
    return PyCapsule_New(llama_sampler_init(&iface, nullptr), LLAMA_CY_SAMPLER_CAPSULE, [](PyObject * capsule) {
        llama_sampler_free(static_cast<llama_sampler *>(PyCapsule_GetPointer(capsule, LLAMA_CY_SAMPLER_CAPSULE)));
    });
}

static PyObject * sampler_name(PyObject *, PyObject * capsule) {
    auto * sampler = static_cast<llama_sampler *>(PyCapsule_GetPointer(capsule, LLAMA_CY_SAMPLER_CAPSULE));
    return sampler == nullptr ? nullptr : PyUnicode_FromString(llama_sampler_name(sampler));
}

static PyObject * other_capsule(PyObject *, PyObject * name) {
    static int somewhere;
    return PyCapsule_New(&somewhere, name == Py_None ? nullptr : "somebody.something", nullptr);
}

static PyMethodDef methods[] = {
    {"make_model", make_model, METH_VARARGS, nullptr}, {"count_freed", count_freed, METH_NOARGS, nullptr},
    {"n_tokens", n_tokens, METH_O, nullptr},           {"bos", bos, METH_O, nullptr},
    {"greedy", greedy, METH_VARARGS, nullptr},         {"make_sampler", make_sampler, METH_NOARGS, nullptr},
    {"sampler_name", sampler_name, METH_O, nullptr},   {"other_capsule", other_capsule, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "capsules", nullptr, -1, methods,
                                 nullptr,               nullptr,    nullptr, nullptr};

PyMODINIT_FUNC PyInit_capsules() { return import_llama_cy() < 0 ? nullptr : PyModule_Create(&definition); }

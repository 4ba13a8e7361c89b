// A downstream that frees what it was only lent, and what is its own.
#include "llama_cy_api.h"

#include <exception>

template <typename T> static T * pointer(PyObject * capsule) {
    return static_cast<T *>(PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule)));
}

// What the table throws becomes an exception of Python's, as in Cython.
template <typename Call> static PyObject * caught(Call call) {
    try {
        call();
    } catch (const std::exception & error) {
        return PyErr_Format(PyExc_RuntimeError, "%s", error.what());
    }
    Py_RETURN_NONE;
}

static PyObject * free_model(PyObject *, PyObject * capsule) {
    return caught([=] { llama_model_free(pointer<llama_model>(capsule)); });
}

static PyObject * free_context(PyObject *, PyObject * capsule) {
    return caught([=] { llama_free(pointer<llama_context>(capsule)); });
}

static PyObject * free_sampler(PyObject *, PyObject * capsule) {
    return caught([=] { llama_sampler_free(pointer<llama_sampler>(capsule)); });
}

// As a C program does it, which can't catch anything.
static PyObject * free_without_catch(PyObject *, PyObject * capsule) noexcept {
    llama_free(pointer<llama_context>(capsule));
    Py_RETURN_NONE;
}

static PyObject * make_model(PyObject *, PyObject * path) {
    llama_model * model = llama_model_load_from_file(PyUnicode_AsUTF8(path), llama_model_default_params());
    return PyCapsule_New(model, LLAMA_CY_MODEL_CAPSULE, nullptr);
}

static PyObject * free_own(PyObject *, PyObject * capsule) {
    auto * model = pointer<llama_model>(capsule);
    return caught([=] {
        llama_sampler_free(llama_sampler_init_greedy());
        llama_batch_free(llama_batch_init(8, 0, 1));
        llama_free(llama_init_from_model(model, llama_context_default_params()));
    });
}

static PyMethodDef functions[] = {
    {"free_model", free_model, METH_O, ""},
    {"free_context", free_context, METH_O, ""},
    {"free_sampler", free_sampler, METH_O, ""},
    {"free_without_catch", free_without_catch, METH_O, ""},
    {"free_own", free_own, METH_O, ""},
    {"make_model", make_model, METH_O, ""},
    {nullptr, nullptr, 0, nullptr},
};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "wrong_free", "", -1, functions, nullptr, nullptr, nullptr, nullptr};

PyMODINIT_FUNC PyInit_wrong_free(void) {
    return import_llama_cy() < 0 ? nullptr : PyModule_Create(&module);
}

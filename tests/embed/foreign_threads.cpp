// A C++ extension that uses what Python lends it on a thread that Python has never seen.
#include "llama_cy_api.h"

#include <string>
#include <thread>
#include <vector>

// The code of llama_decode, or what was thrown.
static PyObject * decode(PyObject *, PyObject * args) {
    PyObject * capsule;
    int count;
    if (!PyArg_ParseTuple(args, "Oi", &capsule, &count)) {
        return nullptr;
    }
    auto * ctx = static_cast<llama_context *>(PyCapsule_GetPointer(capsule, LLAMA_CY_CONTEXT_CAPSULE));
    if (ctx == nullptr) {
        return nullptr;
    }
    int code = 0;
    Py_BEGIN_ALLOW_THREADS
    std::thread([&] {
        std::vector<llama_token> tokens(count, 5);
        code = llama_decode(ctx, llama_batch_get_one(tokens.data(), count));
    }).join();
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(code);
}

// The token, or what was thrown.
static PyObject * choose(PyObject *, PyObject * args) {
    PyObject * capsule;
    int times, here = 0;
    if (!PyArg_ParseTuple(args, "Oi|p", &capsule, &times, &here)) {
        return nullptr;
    }
    auto * sampler = static_cast<llama_sampler *>(PyCapsule_GetPointer(capsule, LLAMA_CY_SAMPLER_CAPSULE));
    if (sampler == nullptr) {
        return nullptr;
    }
    llama_token token = -1;
    std::string thrown;
    auto work = [&] {
        for (int i = 0; i < times; i++) {
            std::vector<llama_token_data> data = {{3, 1.0f, 0.0f}, {4, 2.0f, 0.0f}};
            llama_token_data_array candidates = {data.data(), data.size(), -1, false};
            try {
                llama_sampler_apply(sampler, &candidates);
                token = candidates.selected < 0 ? -1 : candidates.data[candidates.selected].id;
            } catch (const std::exception & error) {
                thrown = error.what();
            }
        }
    };
    Py_BEGIN_ALLOW_THREADS
    if (here) {
        work();
    } else {
        std::thread(work).join();
    }
    Py_END_ALLOW_THREADS
    return thrown.empty() ? PyLong_FromLong(token) : PyUnicode_FromString(thrown.c_str());
}

static PyMethodDef methods[] = {
    {"decode", decode, METH_VARARGS, nullptr},
    {"choose", choose, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "foreign_threads", nullptr, -1, methods,
                                 nullptr,               nullptr,           nullptr, nullptr};

PyMODINIT_FUNC PyInit_foreign_threads() { return import_llama_cy() < 0 ? nullptr : PyModule_Create(&definition); }

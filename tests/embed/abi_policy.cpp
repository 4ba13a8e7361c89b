// A downstream that calls one function through the table of the installed package.
#include "llama_cy_api.h"

static PyObject * max_devices(PyObject *, PyObject *) { return PyLong_FromSize_t(llama_max_devices()); }

static PyMethodDef methods[] = {{"max_devices", max_devices, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "abi_policy", nullptr, -1, methods,
                                 nullptr,               nullptr,      nullptr, nullptr};

PyMODINIT_FUNC PyInit_abi_policy() { return import_llama_cy() < 0 ? nullptr : PyModule_Create(&definition); }

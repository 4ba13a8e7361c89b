// A C++ program with a model, which its own threads and a Python script use at the same time.
//
//     story_server model.gguf script.py
//
// The weights belong to C++. Each thread has a context of its own and knows nothing of Python; the script finds a
// llama_cy.Model called `model`.
#include "llama_cy_api.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using SharedModel = std::shared_ptr<llama_model>;

// Greedy text of one thread; the GIL is not needed.
static std::string tell(const SharedModel & model, const std::string & opening, int n_tokens) {
    const llama_vocab * vocab = llama_model_get_vocab(model.get());
    auto params = llama_context_default_params();
    params.n_ctx = 512;
    params.n_threads = params.n_threads_batch = 1;
    std::unique_ptr<llama_context, void (*)(llama_context *)> ctx(
        llama_init_from_model(model.get(), params), [](llama_context * p) { llama_free(p); });
    if (!ctx) {
        return "(no context)";
    }
    std::vector<llama_token> tokens(opening.size() + 2);
    tokens.resize(std::max(0, llama_tokenize(
        vocab, opening.data(), (int) opening.size(), tokens.data(), (int) tokens.size(), true, true)));
    std::string text = opening;
    const int n_vocab = llama_vocab_n_tokens(vocab);
    for (int i = 0; i < n_tokens; i++) {
        if (llama_decode(ctx.get(), llama_batch_get_one(tokens.data(), (int) tokens.size())) != 0) {
            break;
        }
        const float * logits = llama_get_logits_ith(ctx.get(), -1);
        const llama_token next = (llama_token) (std::max_element(logits, logits + n_vocab) - logits);
        if (llama_vocab_is_eog(vocab, next)) {
            break;
        }
        char piece[256];
        const int size = llama_token_to_piece(vocab, next, piece, sizeof(piece), 0, false);
        text.append(piece, std::max(0, size));
        tokens.assign(1, next);
    }
    return text;
}

// Called when Python needs the weights no more.
static void let_go(PyObject * capsule) {
    delete static_cast<SharedModel *>(PyCapsule_GetContext(capsule));
}

// A capsule that holds a share of the model.
static PyObject * share(const SharedModel & model) {
    PyObject * capsule = PyCapsule_New(model.get(), LLAMA_CY_MODEL_CAPSULE, let_go);
    if (capsule != nullptr && PyCapsule_SetContext(capsule, new SharedModel(model)) != 0) {
        Py_CLEAR(capsule);
    }
    return capsule;
}

// Run the script with `model` among its names; false after an exception, which is printed.
static bool run_script(const SharedModel & shared, const char * path) {
    FILE * file = std::fopen(path, "r");
    if (file == nullptr) {
        std::perror(path);
        return false;
    }
    PyObject * names = PyDict_New();
    PyObject * package = PyImport_ImportModule("llama_cy");
    PyObject * capsule = share(shared);
    PyObject * model = package && capsule ? PyObject_CallMethod(package, "from_capsule", "O", capsule) : nullptr;
    PyObject * result = nullptr;
    if (model != nullptr && PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins()) == 0 &&
        PyDict_SetItemString(names, "model", model) == 0) {
        result = PyRun_File(file, path, Py_file_input, names, names);
    }
    if (result == nullptr) {
        PyErr_Print();
    }
    const bool done = result != nullptr;
    Py_XDECREF(result);
    Py_XDECREF(model);
    Py_XDECREF(capsule);
    Py_XDECREF(package);
    Py_XDECREF(names);
    std::fclose(file);
    return done;
}

// Start the Python that this was built for, with the packages of its environment.
static bool start_python() {
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    PyStatus status = PyConfig_SetBytesString(&config, &config.program_name, PYTHON);
    if (!PyStatus_Exception(status)) {
        status = Py_InitializeFromConfig(&config);
    }
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        std::fprintf(stderr, "Python does not start: %s\n", status.err_msg);
        return false;
    }
    return true;
}

// What happens between the start and the end of Python.
static int serve(const char * model_path, const char * script) {
    if (import_llama_cy() < 0) {
        PyErr_Print();
        return 1;
    }
    SharedModel model(
        llama_model_load_from_file(model_path, llama_model_default_params()), [](llama_model * p) {
            if (p != nullptr) {
                llama_model_free(p);
                std::puts("the model is freed");
            }
        });
    if (!model) {
        std::fprintf(stderr, "%s can't be loaded\n", model_path);
        return 1;
    }
    const std::vector<std::string> openings = {"Once upon a time", "Lily went to the park"};
    std::vector<std::string> stories(openings.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < openings.size(); i++) {
        threads.emplace_back([&, i] { stories[i] = tell(model, openings[i], 40); });
    }
    const bool done = run_script(model, script);
    for (auto & thread : threads) {
        thread.join();
    }
    for (const auto & story : stories) {
        std::printf("C++: %s\n", story.c_str());
    }
    return done ? 0 : 1;
}

int main(int argc, char ** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s model.gguf script.py\n", argv[0]);
        return 2;
    }
    if (!start_python()) {
        return 1;
    }
    const int code = serve(argv[1], argv[2]);
    // Python's own buffers come first, so that nothing is printed out of order.
    return Py_FinalizeEx() < 0 ? 120 : code;
}

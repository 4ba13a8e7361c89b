// A table like llama_cy's whose functions count their calls, and one of which can be broken, before they do their work.
#define LLAMA_CY_UNIQUE_SYMBOL llama_cy_gate_table
#define LLAMA_CY_NO_IMPORT
#include "llama_cy_api.h"

#include <atomic>
#include <type_traits>

#define EXPORT extern "C" __attribute__((visibility("default")))

enum : int {
#define FUNCTION(name) index_##name,
#include "functions.h"
#undef FUNCTION
    n_functions
};

EXPORT std::atomic<uint64_t> calls[n_functions];
EXPORT int broken;
std::atomic<uint64_t> calls[n_functions];
int broken = -1;

static const llama_cy_table * real;
static llama_cy_table table;

template <int index, auto member, typename function> struct counted;

template <int index, auto member, typename result, typename... arguments>
struct counted<index, member, result (*)(arguments...)> {
    static result call(arguments... values) {
        calls[index].fetch_add(1, std::memory_order_relaxed);
        if (index != broken) {
            return (real->*member)(values...);
        }
        if constexpr (std::is_same_v<result, bool>) {
            return !(real->*member)(values...);
        } else if constexpr (std::is_arithmetic_v<result> || std::is_enum_v<result>) {
            return static_cast<result>((real->*member)(values...) + 1);
        } else if constexpr (!std::is_void_v<result>) {
            return result{};
        }
    }
};

EXPORT const void * install(const void * found) {
    real = static_cast<const llama_cy_table *>(found);
    table = *real;
#define FUNCTION(name) \
    table.name = counted<index_##name, &llama_cy_table::name, decltype(llama_cy_table::name)>::call;
#include "functions.h"
#undef FUNCTION
    return &table;
}

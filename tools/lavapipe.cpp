// Loaded before Mesa's Vulkan for the CPU, by tools/vulkan.py: binds a living buffer wherever a kernel of ggml has none.
//
// All kernels share one layout of storage buffers, and each writes the bindings that it uses. The others keep what an earlier
// kernel had, which Vulkan allows as long as no kernel reads them; Mesa 22.3 counts their references all the same, in
// buffers that were freed since.
#include <dlfcn.h>
#include <vulkan/vulkan_core.h>

#include <cstring>
#include <vector>

namespace {

// ggml's MAX_PARAMETER_COUNT.
constexpr uint32_t BINDINGS = 12;

PFN_vkUpdateDescriptorSets update = nullptr;

// The loader comes with a module of Python, so it is not among the libraries that follow this one.
void * of_loader(const char * name) {
    static void * const loader = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    return dlsym(loader, name);
}

VKAPI_ATTR void VKAPI_CALL update_all(
    VkDevice device, uint32_t n_writes, const VkWriteDescriptorSet * writes, uint32_t n_copies,
    const VkCopyDescriptorSet * copies) {
    std::vector<VkWriteDescriptorSet> wider(writes, writes + n_writes);
    std::vector<std::vector<VkDescriptorBufferInfo>> buffers(n_writes);
    for (uint32_t i = 0; i < n_writes; i++) {
        VkWriteDescriptorSet & write = wider[i];
        if (write.descriptorType == VK_DESCRIPTOR_TYPE_STORAGE_BUFFER && write.dstBinding == 0 && write.descriptorCount > 0) {
            buffers[i].assign(write.pBufferInfo, write.pBufferInfo + write.descriptorCount);
            buffers[i].resize(BINDINGS, buffers[i].front());
            write.pBufferInfo = buffers[i].data();
            write.descriptorCount = BINDINGS;
        }
    }
    update(device, n_writes, wider.data(), n_copies, copies);
}

PFN_vkVoidFunction ours(const char * name, PFN_vkVoidFunction found) {
    if (found != nullptr && std::strcmp(name, "vkUpdateDescriptorSets") == 0) {
        update = reinterpret_cast<PFN_vkUpdateDescriptorSets>(found);
        return reinterpret_cast<PFN_vkVoidFunction>(update_all);
    }
    return found;
}

}  // namespace

extern "C" VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetInstanceProcAddr(VkInstance instance, const char * name) {
    static const auto next = reinterpret_cast<PFN_vkGetInstanceProcAddr>(of_loader("vkGetInstanceProcAddr"));
    return ours(name, next(instance, name));
}

extern "C" VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetDeviceProcAddr(VkDevice device, const char * name) {
    static const auto next = reinterpret_cast<PFN_vkGetDeviceProcAddr>(of_loader("vkGetDeviceProcAddr"));
    return ours(name, next(device, name));
}

# Finds CUDA's headers and nvcc: CUDA_ROOT as given, what `scripts/setup --cuda` put together under
# build/cuda, or an installed toolkit. Sets QUIRE_CUDA_ROOT, QUIRE_CUDA_INCLUDES, QUIRE_CUDA_VERSION
# (empty when there is none).
set(CUDA_ROOT "" CACHE PATH "a CUDA toolkit; empty: build/cuda, or an installed one")
set(QUIRE_CUDA_ROOT "")
set(QUIRE_CUDA_VERSION "")
find_program(QUIRE_INSTALLED_NVCC nvcc)
set(of_nvcc "")
if(QUIRE_INSTALLED_NVCC)
    get_filename_component(of_nvcc ${QUIRE_INSTALLED_NVCC} REALPATH) # ROOT/bin/nvcc
    get_filename_component(of_nvcc ${of_nvcc} DIRECTORY)
    get_filename_component(of_nvcc ${of_nvcc} DIRECTORY)
endif()
foreach(root "${CUDA_ROOT}" ${PROJECT_SOURCE_DIR}/build/cuda "$ENV{CUDA_HOME}" /usr/local/cuda ${of_nvcc})
    if(root AND EXISTS ${root}/include/cuda_runtime_api.h)
        set(QUIRE_CUDA_ROOT ${root})
        break()
    endif()
endforeach()
if(QUIRE_CUDA_ROOT)
    # nv/target stands in a folder of its own in the wheels
    set(QUIRE_CUDA_INCLUDES ${QUIRE_CUDA_ROOT}/include ${QUIRE_CUDA_ROOT}/include/cccl)
    file(STRINGS ${QUIRE_CUDA_ROOT}/include/cuda_runtime_api.h line
        REGEX "^#define CUDART_VERSION +[0-9]+")
    string(REGEX MATCH "[0-9]+$" version "${line}") # 13000 is 13.0
    math(EXPR major "${version} / 1000")
    math(EXPR minor "${version} % 1000 / 10")
    set(QUIRE_CUDA_VERSION ${major}.${minor})
endif()

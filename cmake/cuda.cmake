# CUDA sources by nvcc, for the chips that its version knows. Needs no driver.
include(cmake/cuda_toolkit.cmake)
set(QUIRE_CUDA_CHIPS "" CACHE STRING "80;90a;...: these alone, without PTX; empty: all that nvcc knows")
if(NOT QUIRE_CUDA_ROOT OR NOT EXISTS ${QUIRE_CUDA_ROOT}/bin/nvcc)
    message(FATAL_ERROR "QUIRE_CUDA needs nvcc: run scripts/setup --cuda, or set CUDA_ROOT")
elseif(QUIRE_CUDA_VERSION VERSION_LESS 12.4)
    message(FATAL_ERROR "CUDA ${QUIRE_CUDA_VERSION} in ${QUIRE_CUDA_ROOT} is too old; 12.8 or newer is "
        "wanted, 12.4 will do")
elseif(QUIRE_CUDA_VERSION VERSION_LESS 12.8)
    set(chips 80 90a)
    set(ptx 90)
else()
    set(chips 80 90a 100 120)
    set(ptx 120)
endif()
if(QUIRE_CUDA_CHIPS)
    set(chips ${QUIRE_CUDA_CHIPS})
    set(ptx "")
endif()
message(STATUS "CUDA ${QUIRE_CUDA_VERSION}: compiling for chips ${chips}, PTX of ${ptx}")

# A spill to local memory, or an array that lives there, is an error.
set(nvcc_flags -std=c++17 -O3 -lineinfo -Werror all-warnings --threads 2
    -Xptxas -warn-spills,-warn-lmem-usage,-Werror -I${PROJECT_SOURCE_DIR})
if(ptx)
    list(APPEND nvcc_flags -gencode arch=compute_${ptx},code=compute_${ptx})
endif()
set(capabilities "")
foreach(chip ${chips})
    list(APPEND nvcc_flags -gencode arch=compute_${chip},code=sm_${chip})
    string(REGEX REPLACE "[a-z]$" "" capability ${chip})
    list(APPEND capabilities ${capability})
endforeach()
list(JOIN capabilities "\\," capabilities) # nvcc takes a comma for the end of an option
list(APPEND nvcc_flags -DQUIRE_CHIPS=${capabilities} -DQUIRE_PTX=${ptx}+0)

# cuda_compiled(target SOURCES... ) gives the target CUDA sources and the runtime, linked statically.
function(cuda_compiled target)
    foreach(source ${ARGN})
        get_filename_component(name ${source} NAME)
        set(object ${CMAKE_CURRENT_BINARY_DIR}/${target}.${name}.o)
        add_custom_command(OUTPUT ${object} DEPFILE ${object}.d DEPENDS ${source}
            COMMAND ${QUIRE_CUDA_ROOT}/bin/nvcc ${nvcc_flags} -MD -MF ${object}.d -c ${source}
                -o ${object}
            COMMENT "Building CUDA object ${target}.${name}.o" VERBATIM)
        target_sources(${target} PRIVATE ${object})
        set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
    endforeach()
    set_target_properties(${target} PROPERTIES LINKER_LANGUAGE C)
    find_library(cudart_static cudart_static REQUIRED NO_DEFAULT_PATH
        PATHS ${QUIRE_CUDA_ROOT}/lib ${QUIRE_CUDA_ROOT}/lib64
            ${QUIRE_CUDA_ROOT}/lib/x86_64-linux-gnu)
    target_link_libraries(${target} PRIVATE ${cudart_static} stdc++ m Threads::Threads rt dl)
endfunction()

file(GLOB cuda_c CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.c)
file(GLOB cuda_cu CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cu)
add_library(quire_kernels_cuda STATIC ${cuda_c})
cuda_compiled(quire_kernels_cuda ${cuda_cu})
target_link_libraries(quire_kernels_cuda PUBLIC quire_base)

# CUDA sources as C++ of the CPU, on the emulation of tests/cuda_on_cpu. Needs CUDA's headers alone.
include(cmake/cuda_toolkit.cmake)
if(NOT QUIRE_CUDA_ROOT)
    message(FATAL_ERROR "QUIRE_CUDA_EMULATION needs CUDA's headers: run scripts/setup --cuda, or set "
        "CUDA_ROOT")
endif()
enable_language(CXX)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")
foreach(kind RELEASE RELWITHDEBINFO) # asserts stay on
    string(REPLACE "-DNDEBUG" "" CMAKE_CXX_FLAGS_${kind} "${CMAKE_CXX_FLAGS_${kind}}")
endforeach()

# The runtime, compiled once. Under ThreadSanitizer it is not instrumented itself: it tells what
# CUDA orders.
file(GLOB emulation_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/cuda_on_cpu/emu_*.cpp)
list(REMOVE_ITEM emulation_sources ${PROJECT_SOURCE_DIR}/tests/cuda_on_cpu/emu_chip.cpp)
add_library(cuda_emulation STATIC ${emulation_sources})
target_include_directories(cuda_emulation PUBLIC tests/cuda_on_cpu)
target_include_directories(cuda_emulation SYSTEM PUBLIC ${QUIRE_CUDA_INCLUDES})
target_link_libraries(cuda_emulation PUBLIC Threads::Threads)
if(QUIRE_SANITIZE STREQUAL "thread")
    target_compile_options(cuda_emulation PRIVATE -fno-sanitize=thread)
    target_compile_definitions(cuda_emulation PUBLIC EMU_TSAN)
    # One thread reads and repacks a matrix byte by byte: most of what a test of linear took.
    set_source_files_properties(kernels/cuda/cuda_repack.c kernels/tensor_block.c
        kernels/tensor_type.c PROPERTIES COMPILE_OPTIONS -fno-sanitize=thread)
endif()

# cuda_emulated(target sm SOURCES... ) gives the target CUDA sources, compiled for that chip, and the
# chip; cuda_emulated_beside leaves it out, for targets that link the backend below.
function(cuda_emulated_beside target sm)
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX
        COMPILE_OPTIONS "-xc++;-Wno-unknown-pragmas") # #pragma unroll
    target_sources(${target} PRIVATE ${ARGN})
    target_compile_definitions(${target} PRIVATE QUIRE_SM=${sm} QUIRE_CHIPS=${sm} QUIRE_PTX=0)
    target_link_libraries(${target} PRIVATE cuda_emulation)
endfunction()

function(cuda_emulated target sm)
    cuda_emulated_beside(${target} ${sm} ${ARGN})
    target_sources(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests/cuda_on_cpu/emu_chip.cpp)
endfunction()

# The backend once for each emulated chip: quire_kernels_cuda_sm80, ...
set(QUIRE_EMULATED_CHIPS 80 90)
if(QUIRE_SANITIZE)
    set(QUIRE_EMULATED_CHIPS 90)
endif()
file(GLOB cuda_c CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.c)
file(GLOB cuda_cu CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cu)
foreach(sm ${QUIRE_EMULATED_CHIPS})
    add_library(quire_kernels_cuda_sm${sm} OBJECT ${cuda_c})
    cuda_emulated(quire_kernels_cuda_sm${sm} ${sm} ${cuda_cu})
    target_link_libraries(quire_kernels_cuda_sm${sm} PUBLIC quire_base)
endforeach()

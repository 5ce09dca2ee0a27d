# The backends: one source file each, chosen by VIS4MER_WITH_NAME and by what is found.

set(backends "")

# Adds a backend whose files are found, or reports that they are missing.
function(add_backend name source include_dirs libraries remedy)
  if(include_dirs AND libraries)
    target_sources(vis4mer PRIVATE src/${source})
    target_include_directories(vis4mer SYSTEM PRIVATE ${include_dirs})
    target_link_libraries(vis4mer PRIVATE ${libraries})
    target_compile_definitions(vis4mer PRIVATE VIS4MER_WITH_${name})
    set(backends "${backends} ${name}" PARENT_SCOPE)
  elseif(NOT VIS4MER_WITH_${name} STREQUAL AUTO)
    message(FATAL_ERROR " VIS4MER_WITH_${name}=${VIS4MER_WITH_${name}}: not found; ${remedy}")
  endif()
endfunction()

if(VIS4MER_WITH_TORCH)
  # find_package(Torch) does not work here: the CMake files of PyPI's CUDA builds require the whole CUDA toolkit.
  set(torch ${TORCH_ROOT})
  if(NOT torch)
    find_python_package(torch torch)
  endif()
  set(torch_include "")
  set(torch_libraries "")
  if(EXISTS ${torch}/include/torch/csrc/api/include)
    set(torch_include ${torch}/include ${torch}/include/torch/csrc/api/include)
    # libtorch.so brings the CUDA libraries, and packages (.pt2) look it up in the process that loads them, though no
    # symbol used here comes from it.
    set(torch_libraries -Wl,--push-state,--no-as-needed ${torch}/lib/libtorch.so -Wl,--pop-state
                        ${torch}/lib/libtorch_cpu.so ${torch}/lib/libc10.so)
  endif()
  add_backend(TORCH backend_torch.cpp "${torch_include}" "${torch_libraries}"
              "pip install torch and name its interpreter with -D Python=..., or set TORCH_ROOT to a LibTorch")
endif()

if(VIS4MER_WITH_ONNXRUNTIME)
  find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_cxx_api.h HINTS ${ONNXRUNTIME_ROOT}/include PATH_SUFFIXES onnxruntime)
  find_library(ONNXRUNTIME_LIBRARY onnxruntime HINTS ${ONNXRUNTIME_ROOT}/lib)
  set(onnxruntime ${ONNXRUNTIME_LIBRARY})
  if(NOT onnxruntime)
    # The Python package holds the library, without headers and without the name by which the linker's result looks it
    # up. Links beside each other supply that name, and the providers, which ONNX Runtime loads from its own folder.
    find_python_package(onnxruntime package)
    file(GLOB onnxruntime ${package}/capi/libonnxruntime.so.*)
    file(GLOB providers ${package}/capi/libonnxruntime_providers_*.so)
    if(onnxruntime)
      set(folder ${CMAKE_CURRENT_BINARY_DIR}/onnxruntime)
      file(MAKE_DIRECTORY ${folder})
      file(CREATE_LINK ${onnxruntime} ${folder}/libonnxruntime.so.1 SYMBOLIC)
      foreach(provider ${providers})
        cmake_path(GET provider FILENAME name)
        file(CREATE_LINK ${provider} ${folder}/${name} SYMBOLIC)
      endforeach()
      set(onnxruntime ${folder}/libonnxruntime.so.1)
    endif()
  endif()
  add_backend(ONNXRUNTIME backend_onnxruntime.cpp "${ONNXRUNTIME_INCLUDE_DIR}" "${onnxruntime}"
              "set ONNXRUNTIME_ROOT to a release of ONNX Runtime 1.18 or later, or ONNXRUNTIME_INCLUDE_DIR to its headers")
endif()

if(VIS4MER_WITH_TENSORRT)
  find_path(TENSORRT_INCLUDE_DIR NvInferRuntime.h HINTS ${TENSORRT_ROOT}/include)
  find_library(TENSORRT_LIBRARY NAMES nvinfer tensorrt_rtx HINTS ${TENSORRT_ROOT}/lib)
  find_path(CUDA_INCLUDE_DIR cuda_runtime_api.h HINTS $ENV{CUDA_PATH}/include /usr/local/cuda/include)
  set(tensorrt_include "")
  if(TENSORRT_INCLUDE_DIR AND CUDA_INCLUDE_DIR)
    set(tensorrt_include ${TENSORRT_INCLUDE_DIR} ${CUDA_INCLUDE_DIR})
  endif()
  if(TENSORRT_LIBRARY MATCHES rtx)
    target_compile_definitions(vis4mer PRIVATE VIS4MER_TENSORRT_FORMAT="trt-rtx")
  elseif(TENSORRT_LIBRARY)
    target_compile_definitions(vis4mer PRIVATE VIS4MER_TENSORRT_FORMAT="trt")
  endif()
  add_backend(TENSORRT backend_tensorrt.cpp "${tensorrt_include}" "${TENSORRT_LIBRARY}"
              "set TENSORRT_ROOT to a release of TensorRT or of TensorRT for RTX, and CUDA_PATH to a CUDA toolkit")
endif()

if(NOT backends)
  message(FATAL_ERROR " no backend found; pip install torch, or set ONNXRUNTIME_ROOT or TENSORRT_ROOT")
endif()
message(STATUS "vis4mer backends:${backends}")

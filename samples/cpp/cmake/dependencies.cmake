# JSON by nlohmann/json, SHA-256 by OpenSSL. CMake keeps messages that begin with a space on one line.

# Sets `result` to the folder of an installed Python package, or to nothing.
function(find_python_package name result)
  execute_process(
    COMMAND ${Python} -c "import importlib.util as u; print(u.find_spec('${name}').submodule_search_locations[0], end='')"
    OUTPUT_VARIABLE folder ERROR_QUIET RESULT_VARIABLE failed)
  if(failed)
    set(folder "")
  endif()
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()

find_package(OpenSSL QUIET COMPONENTS Crypto)
if(NOT OpenSSL_FOUND)
  message(FATAL_ERROR " OpenSSL: not found; apt install libssl-dev, or set OPENSSL_ROOT_DIR")
endif()
target_link_libraries(vis4mer PRIVATE OpenSSL::Crypto)

find_python_package(nlohmann_json python_json)
find_path(NLOHMANN_JSON_INCLUDE_DIR nlohmann/json.hpp HINTS ${python_json}/include)
if(NOT NLOHMANN_JSON_INCLUDE_DIR)
  message(FATAL_ERROR " nlohmann/json: not found; apt install nlohmann-json3-dev, or pip install nlohmann-json, or set NLOHMANN_JSON_INCLUDE_DIR")
endif()
add_library(vis4mer_json INTERFACE)
target_include_directories(vis4mer_json SYSTEM INTERFACE ${NLOHMANN_JSON_INCLUDE_DIR})
target_link_libraries(vis4mer PRIVATE vis4mer_json)

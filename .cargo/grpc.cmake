# Halves the cold build of gRPC's C++ (grpcio-sys 0.13, C-core 1.56.2). Included by CMake right after
# `project(grpc)`; the two steps wait for the end of gRPC's CMakeLists.txt, where its targets exist.

set(JOBLET_PRECOMPILED "${CMAKE_CURRENT_LIST_DIR}/grpc-precompiled.h")

function(joblet_precompile)
    target_precompile_headers(grpc PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${JOBLET_PRECOMPILED}>")
endfunction()

# xDS and RLS fetch a service mesh's routes; no joblet program names such a target. Without them, by gRPC's own
# switches, a third of the files is not compiled and not linked.
function(joblet_leave_out_xds)
    get_target_property(sources grpc SOURCES)
    list(FILTER sources EXCLUDE REGEX "/upbdefs-generated/")
    list(FILTER sources EXCLUDE REGEX "/upb-generated/(envoy|udpa|opencensus)/")
    list(FILTER sources EXCLUDE REGEX "core/ext/xds/")
    list(FILTER sources EXCLUDE REGEX "/lb_policy/(xds|rls|ring_hash)/")
    list(FILTER sources EXCLUDE REGEX "/resolver/(xds|google_c2p)/")
    list(FILTER sources EXCLUDE REGEX "/filters/(rbac|stateful_session)/")
    list(FILTER sources EXCLUDE REGEX "/credentials/xds/")
    set_property(TARGET grpc PROPERTY SOURCES ${sources})
    target_compile_definitions(grpc PRIVATE GRPC_NO_XDS GRPC_NO_RLS)
endfunction()

cmake_language(DEFER CALL joblet_leave_out_xds)
cmake_language(DEFER CALL joblet_precompile)

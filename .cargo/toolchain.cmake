# Chooses no compiler: it only hooks .cargo/grpc.cmake into the one project named "grpc".
set(CMAKE_PROJECT_grpc_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/grpc.cmake")

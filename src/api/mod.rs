//! gRPC in, commands out.

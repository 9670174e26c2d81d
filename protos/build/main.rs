//! Generates Rust from the .proto files, without protoc and without C++.

use std::{env, error::Error, fs, path::PathBuf};

mod stubs;

/// Writes OUT_DIR/pb/mod.rs with one module of messages a proto file, and OUT_DIR/pb/grpc.rs with their services.
fn main() -> Result<(), Box<dyn Error>> {
    let inputs = ["joblet.proto", "persist.proto", "ipc.proto"];
    for input in inputs {
        println!("cargo::rerun-if-changed={input}");
    }
    println!("cargo::rerun-if-changed=build");

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("pb");
    fs::create_dir_all(&out)?;
    protobuf_codegen::Codegen::new().pure().include(".").inputs(inputs).out_dir(&out).run()?;

    let set = protobuf_parse::Parser::new().pure().include(".").inputs(inputs).file_descriptor_set()?;
    fs::write(out.join("grpc.rs"), stubs::modules(&set.file))?;
    Ok(())
}

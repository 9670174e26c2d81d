//! Jobs of the build: Rust for protos/, without protoc and without C++.

use std::{env, error::Error, fs, path::PathBuf};

#[path = "protos/stubs.rs"]
mod stubs;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    protos()
}

/// OUT_DIR/pb/mod.rs with one module of messages a proto file, and OUT_DIR/pb/grpc.rs with their services.
fn protos() -> Outcome {
    let dir = PathBuf::from("protos");
    let inputs: Vec<_> =
        ["joblet", "persist", "ipc"].iter().map(|f| dir.join(f).with_extension("proto")).collect();
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=protos");

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("pb");
    fs::create_dir_all(&out)?;
    protobuf_codegen::Codegen::new().pure().include(&dir).inputs(&inputs).out_dir(&out).run()?;

    let set = protobuf_parse::Parser::new().pure().include(&dir).inputs(&inputs).file_descriptor_set()?;
    fs::write(out.join("grpc.rs"), stubs::modules(&set.file))?;
    Ok(())
}

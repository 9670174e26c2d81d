//! `rnx runtime validate`

use grpcio::RpcStatusCode;

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::{build, runtime};
use super::{QUERY, connect, runtime_build};
use crate::pb::joblet::{ValidateRuntimeSpecRequest, ValidateRuntimeYAMLRequest};

/// `rnx runtime validate` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["runtime", "validate"],
    alias: false,
    usage: "<runtime>|<file>",
    operands: Operands::One("runtime"),
    flags: &[],
    summary: "Check the name of a runtime, or a recipe",
    about: "Nothing is looked up: the runtime need not be installed. Both NAME[@VERSION] and the\n\
            older LANGUAGE:VERSION[-VARIANT] are valid. What has a / or ends with .yml or .yaml is a\n\
            file with the recipe of a runtime.",
    examples: &["rnx runtime validate python:3.11-ml", "rnx runtime validate python-ml.yml"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Prints the name in its usual form.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let spec = invocation.operands.first().cloned().unwrap_or_default();
    if spec.contains('/') || spec.ends_with(".yml") || spec.ends_with(".yaml") {
        let request =
            ValidateRuntimeYAMLRequest { yaml_content: runtime_build::read(&spec)?, ..Default::default() };
        let answer = server.ask_runtimes(QUERY, |runtimes, option| {
            runtimes.validate_runtime_y_a_m_l_opt(&request, option)
        })?;
        if !answer.valid {
            let why = answer.errors.join("; ");
            return Err(Error::Call(RpcStatusCode::INVALID_ARGUMENT, why.into()));
        }
        return if out.json {
            out.value(&build::validated_json(&answer))
        } else {
            out.text(&build::validated(&answer))
        };
    }
    let request = ValidateRuntimeSpecRequest { runtimeSpec: spec, ..Default::default() };
    let answer = server
        .ask_runtimes(QUERY, |runtimes, option| runtimes.validate_runtime_spec_opt(&request, option))?;
    if !answer.valid {
        return Err(Error::Call(RpcStatusCode::INVALID_ARGUMENT, answer.message.into()));
    }
    if out.json { out.value(&runtime::spelling_json(&answer)) } else { out.text(&runtime::spelling(&answer)) }
}

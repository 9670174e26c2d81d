//! RunJob with `explain`: what a start would do, in its order, and nothing done. The steps are those of the very
//! plan that the child would walk ([`Sandbox::explain`](crate::sandbox::Sandbox::explain)).

use super::request::{Answer, CommandError, Explained, StoredFiles};
use crate::daemon::core::Core;
use crate::daemon::provision::{self, Asked, Node, scratch_bytes};
use crate::job::units::format_duration;
use crate::job::{Controller, DriverParts, JobSpec, NetworkMode, RunAs};
use crate::sandbox::gpu_tree::PLACE;
use crate::sandbox::{Network, Root, RuntimeRoot, SandboxError, SandboxSpec, filter};
use crate::upload::Upload;

/// Answers with the plan of a job that is not started: no id, no record, nothing on disk.
pub(super) fn handle(
    core: &Core,
    mut spec: Box<JobSpec>,
    uploads: &[Upload],
    stored: &StoredFiles,
    answer: Answer<Explained>,
) {
    if let Some(why) = &stored.missing {
        let _ = answer.send(Err(CommandError::WrongState(why.clone())));
        return;
    }
    if let Some(why) = core.supply.lacks_network(&spec.network) {
        let _ = answer.send(Err(CommandError::WrongState(why)));
        return;
    }
    if let Some(why) = core.supply.lacks_volume(&spec.volumes) {
        let _ = answer.send(Err(CommandError::WrongState(why)));
        return;
    }
    if let Some(why) = core.supply.lacks_gpus(&spec) {
        let _ = answer.send(Err(CommandError::WrongState(why)));
        return;
    }
    if let Err(why) = core.supply.runtimes().complete(&mut spec) {
        return drop(answer.send(Err(why)));
    }
    let inline = uploads.iter().map(|upload| upload.content.len() as u64);
    let bytes = inline.chain(stored.found.iter().map(|stored| stored.size())).sum();
    let entries = stored.found.iter().map(|stored| stored.entries()).sum::<usize>() + uploads.len();
    let enforced = core.node.tree.enforce(&spec.limits, core.settings.enforcement);
    let unenforced = match enforced {
        Ok(unenforced) => unenforced,
        Err(why) => return drop(answer.send(Err(CommandError::SetUp(why.to_string())))),
    };
    let asked = Asked { spec: &spec, supply: &core.supply, unenforced: &unenforced };
    let begun = provision::explain(&core.node, &asked);
    let named = unenforced.iter().filter(|missing| missing.controller != Controller::Pids);
    let lacks_rate = core.node.lacks_rate(spec.rate);
    let unenforced = named.map(ToString::to_string).chain(lacks_rate).collect();
    let other_user = core.supply.runtimes().other_user(&spec);
    let draft = Draft { spec, unenforced, begun, entries, bytes, other_user };
    let Some(root) = core.root_of(&draft.spec) else {
        let _ = answer.send(draft.finish(&core.node, None));
        return;
    };
    // The root may have to be made first.
    if let Some(why) = core.streams.inspection().is_full() {
        return drop(answer.send(Err(CommandError::Exhausted(why))));
    }
    let node = core.node.clone();
    core.streams.inspection().run(move || drop(answer.send(draft.finish(&node, Some(&root)))));
}

/// A plan without the steps of the child.
struct Draft {
    spec: Box<JobSpec>,
    unenforced: Vec<String>,
    begun: Vec<String>,
    entries: usize,
    bytes: u64,
    /// The user of the image that the job is not.
    other_user: Option<String>,
}

impl Draft {
    fn finish(self, node: &Node, root: Option<&RuntimeRoot>) -> Result<Explained, CommandError> {
        let failed = |why: SandboxError| CommandError::SetUp(why.to_string());
        let template = root.map(|root| node.sandbox.root(root)).transpose().map_err(failed)?;
        let root = template.as_deref().map_or(Root::Host, Root::Runtime);
        let Draft { spec, unenforced, begun, entries, bytes, other_user } = self;
        let mut plan = plan(node, &spec, begun, root, entries, bytes).map_err(failed)?;
        plan.extend(user(&spec, other_user));
        plan.push(command(&spec));
        Ok(Explained { spec, unenforced, plan })
    }
}

/// Sentences in the order of a start, behind those that are there already.
fn plan(
    node: &Node,
    spec: &JobSpec,
    mut plan: Vec<String>,
    root: Root<'_>,
    entries: usize,
    bytes: u64,
) -> Result<Vec<String>, SandboxError> {
    let wire = provision::wire_to(spec.network.as_str(), "<address>");
    plan.extend(node.sandbox.explain(SandboxSpec {
        hostname: "job-<id>",
        scratch_bytes: scratch_bytes(&spec.limits, node.work_quota),
        pids: spec.limits.pids,
        network: match &spec.network {
            NetworkMode::None => Network::Own,
            NetworkMode::Host => Network::Host,
            NetworkMode::Isolated | NetworkMode::Bridge | NetworkMode::Custom(_) => {
                Network::Wired(node.sandbox.shown_wire(&wire))
            }
        },
        user: spec.user,
        root,
        profile: spec.profile,
        writable: spec.writable,
    })?);
    let policy = filter::policy_of(spec.user, spec.profile);
    plan.push(format!("system call policy: {}", policy.summary()));
    if entries > 0 {
        plan.push(format!("put {entries} uploaded files and directories, {bytes} bytes, into /work"));
    }
    for used in &spec.volumes {
        plan.push(format!("attach the volume {} at {} ({})", used.name, used.place(), used.access()));
    }
    if spec.gpus.is_some() {
        plan.push("put the nodes of its GPUs, and those that GPU programs share, into /dev".to_owned());
        plan.extend(driver(node.sandbox.driver_parts()));
    }
    Ok(plan)
}

/// The files of the driver that a job with GPUs sees.
fn driver(parts: DriverParts) -> Option<String> {
    let parts =
        [(parts.libraries, "the driver's libraries"), (parts.program, "nvidia-smi"), (parts.cuda, "CUDA")];
    let shown: Vec<&str> = parts.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
    (!shown.is_empty()).then(|| format!("show {} of the host below {PLACE}, read-only", shown.join(", ")))
}

/// The user of the payload, where that is not the one of joblet-init.
fn user(spec: &JobSpec, other: Option<String>) -> Option<String> {
    if let RunAs::Known(name) = &spec.run_as {
        return Some(format!(
            "look the user {name} up in /etc/passwd and /etc/group of the root, give it /work and become it"
        ));
    }
    let is = spec.user.as_str();
    other.map(|other| {
        format!("stay {is}: a job of the profile strict has one id, and is not the image's user {other:?}")
    })
}

/// The command in words. A plan shows no values of variables, secret or not.
fn command(spec: &JobSpec) -> String {
    let words: Vec<_> =
        std::iter::once(&spec.command).chain(&spec.args).map(|word| format!("{word:?}")).collect();
    let variables = spec.environment.len() + spec.secrets.len();
    let bound = spec.timeout.map(|bound| format!(", for at most {}", format_duration(bound)));
    let grace = spec.stop_grace.map(|grace| format!("; a stop gives it {}", format_duration(grace)));
    format!(
        "start {} in {}, with {variables} variables of yours{}{}",
        words.join(" "),
        spec.work_dir,
        bound.unwrap_or_default(),
        grace.unwrap_or_default()
    )
}

//! A validated request of a client, with the node's defaults filled in.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::ClientId;
use super::egress::List;
use super::env::{self, Secret};
use super::publish::Published;
use super::{
    GpuWish, InvalidField, Limits, NetRate, NetworkMode, Part, Profile, RunAs, RuntimeSpec, User, VolumeUse,
};

/// The program of a job and its limits. Only the API builds it; every field has passed its rule. It is stored without
/// the values of secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Human name, at most 64 printable characters; may be empty.
    pub name: String,
    /// Program: a path, or a name searched in the job's PATH. Empty only until it is accepted, for that of its runtime.
    pub command: String,
    /// The arguments argv[1..], unchanged.
    pub args: Vec<String>,
    /// Resource limits in force.
    pub limits: Limits,
    /// Absolute directory inside the job. Empty only until it is accepted, for that of its runtime.
    pub work_dir: String,
    /// Plain variables, sorted by name.
    pub environment: Vec<(String, String)>,
    /// Secret variables with their values.
    #[serde(with = "env::names_only")]
    pub secrets: Vec<(String, Secret)>,
    /// The network that it sees.
    pub network: NetworkMode,
    /// Destinations outside its network that it may reach; `None`: those of all jobs. Only of a job that has a wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<List>,
    /// The rate of its network.
    #[serde(default, skip_serializing_if = "NetRate::is_unlimited")]
    pub rate: NetRate,
    /// Ports of the host that reach it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Published>,
    /// The volumes that it gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeUse>,
    /// The GPUs that it gets for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<GpuWish>,
    /// Its root, the exact version once it is accepted; `None`: the host's paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeSpec>,
    /// Whether it may write its root, which is that of a runtime.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub writable: bool,
    /// Whether its standard input comes from a client; else it is empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin: bool,
    /// The user that it is inside.
    #[serde(default, skip_serializing_if = "User::is_root")]
    pub user: User,
    /// The user of its payload, where that is another one.
    #[serde(default, skip_serializing_if = "RunAs::is_unnamed")]
    pub run_as: RunAs,
    /// The profile of its walls.
    #[serde(default, skip_serializing_if = "Profile::is_strict")]
    pub profile: Profile,
    /// Longest run time, counted from the exec; `None` is no bound.
    pub timeout: Option<Duration>,
    /// From TERM to KILL when it is stopped or reaches its timeout; `None`: the node's own time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_grace: Option<Duration>,
    /// Relative paths of the uploads, for status.
    pub upload_paths: Vec<String>,
    /// Handles of uploads that came ahead of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upload_handles: Vec<String>,
    /// Earliest start, ns since the epoch.
    pub not_before_ns: Option<i64>,
    /// The client's own id of the request, at most [`MAX_REQUEST_ID`] characters; may be empty. The same id gives the
    /// same job.
    pub request_id: String,
    /// The client that made the request.
    #[serde(default, skip_serializing_if = "ClientId::is_unknown")]
    pub client: ClientId,
    /// Its place in a workflow; `None`: a client made the request for it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// The directory of the daemon's with the files of a build, where the job builds a runtime; `None`: it does not. No client can
    /// ask for this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<PathBuf>,
}

impl JobSpec {
    /// The command `true` without any wish.
    #[cfg(test)]
    pub(crate) fn bare() -> JobSpec {
        JobSpec {
            name: String::new(),
            command: "true".into(),
            args: vec![],
            limits: Limits { cpu: None, memory: None, io: None, cores: None, pids: 10 },
            work_dir: "/work".into(),
            environment: vec![],
            secrets: vec![],
            network: NetworkMode::None,
            egress: None,
            rate: NetRate::default(),
            publish: vec![],
            volumes: vec![],
            gpus: None,
            runtime: None,
            writable: false,
            stdin: false,
            user: User::Root,
            run_as: RunAs::Unnamed,
            profile: Profile::Strict,
            timeout: None,
            stop_grace: None,
            upload_paths: vec![],
            upload_handles: vec![],
            not_before_ns: None,
            request_id: String::new(),
            client: ClientId::default(),
            part: None,
            build: None,
        }
    }

    /// The user of its payload, as clients see it.
    pub fn user_shown(&self) -> String {
        match &self.run_as {
            RunAs::Known(name) => name.to_string(),
            RunAs::Unnamed | RunAs::Own => self.user.as_str().to_owned(),
        }
    }

    /// Bytes of the texts that every view of the job copies.
    pub fn text_bytes(&self) -> usize {
        let pairs = self.environment.iter().map(|(name, value)| name.len() + value.len());
        let args = self.args.iter().chain(&self.upload_paths).map(String::len);
        self.command.len() + pairs.chain(args).sum::<usize>()
    }
}

/// Longest request id, in characters.
pub const MAX_REQUEST_ID: usize = 128;

/// Checks a request id: printable ASCII without spaces.
///
/// # Errors
/// The rule that is broken.
pub fn check_request_id(id: &str) -> Result<(), InvalidField> {
    if id.len() > MAX_REQUEST_ID {
        let text = format!("request_id has {} bytes, at most {MAX_REQUEST_ID} are allowed", id.len());
        return Err(InvalidField::new(text));
    }
    if !id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(InvalidField::new("request_id may have printable ASCII characters only, and no spaces"));
    }
    Ok(())
}

/// Longest command in bytes.
pub const MAX_COMMAND: usize = 4096;
/// Longest argument in bytes: the kernel's MAX_ARG_STRLEN less its NUL (execve(2)).
pub const MAX_ARG: usize = 131_071;
/// Bytes of command, arguments and environment together, with the pointer that execve(2) keeps for each: it takes a quarter
/// of an 8 MiB stack. The number of arguments has no other limit.
pub const MAX_EXEC_TOTAL: usize = 1_900_000;
/// Characters that `joblet.validateCommands` refuses in a command (never in arguments).
const DANGEROUS: &[char] = &[';', '&', '|', '`', '$', '(', ')'];

/// The refusal of such a command. Clients know it by its beginning.
const DANGER: &str = "invalid command: command contains dangerous characters (; & | ` $ or parentheses); run a shell line \
    as sh -c 'LINE' and a script of such a name as sh 'NAME', or set joblet.validateCommands: false on the node";

/// Checks command and arguments.
///
/// # Errors
/// Empty or too long command, NUL bytes, too long arguments; with `strict`, shell characters in
/// the command (clients know that error by its text).
pub fn check_command(command: &str, args: &[String], strict: bool) -> Result<(), InvalidField> {
    // A name of blanks alone finds nothing in PATH, and hides a variable that a script forgot to set.
    if command.trim().is_empty() {
        return Err(InvalidField::new("command is required"));
    }
    if command.len() > MAX_COMMAND {
        return Err(InvalidField::new(format!(
            "invalid command: it has {} bytes, at most {MAX_COMMAND} are allowed",
            command.len()
        )));
    }
    if command.contains('\0') {
        return Err(InvalidField::new("invalid command: it contains a NUL byte"));
    }
    if strict && command.contains(DANGEROUS) {
        return Err(InvalidField::new(DANGER));
    }
    for (i, arg) in args.iter().enumerate() {
        if arg.contains('\0') {
            return Err(InvalidField::new(format!("args[{i}] contains a NUL byte")));
        }
        if arg.len() > MAX_ARG {
            return Err(InvalidField::new(format!(
                "args[{i}] has {} bytes, at most {MAX_ARG} are allowed",
                arg.len()
            )));
        }
    }
    Ok(())
}

/// Checks that a job which is to write its root has one of its own.
///
/// # Errors
/// It has the host's.
pub fn check_writable(writable: bool, runtime: Option<&RuntimeSpec>) -> Result<(), InvalidField> {
    if writable && runtime.is_none() {
        let text = "writable needs a runtime: without one the root has the host's files, which no job writes; name one, \
                    or write to /work, /tmp and volumes";
        return Err(InvalidField::new(text));
    }
    Ok(())
}

/// Checks a job's name: at most 64 characters, none of them a control character.
///
/// # Errors
/// The rule that is broken.
pub fn check_name(name: &str) -> Result<(), InvalidField> {
    if name.chars().count() > 64 {
        return Err(InvalidField::new("name is too long: at most 64 characters"));
    }
    if name.chars().any(char::is_control) {
        return Err(InvalidField::new("name contains a control character"));
    }
    Ok(())
}

/// Normalises a working directory: empty is `/work`, a relative one is below `/work`.
///
/// # Errors
/// NUL, `..`, longer than 4096 bytes, or below `/proc`, `/dev` or `/sys` (CVE-2024-21626 entered through
/// `/proc/self/fd`).
pub fn work_dir(text: &str) -> Result<String, InvalidField> {
    let bad = |why: &str| InvalidField::new(format!("invalid workDir \"{}\": {why}", text.escape_debug()));
    if text.contains('\0') {
        return Err(bad("it contains a NUL byte"));
    }
    if text.len() > 4000 {
        return Err(bad("it is longer than 4000 bytes"));
    }
    let full = if text.starts_with('/') { text.to_owned() } else { format!("/work/{text}") };
    let parts: Vec<&str> = full.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.contains(&"..") {
        return Err(bad("\"..\" is not allowed"));
    }
    if matches!(parts.first(), Some(&"proc" | &"dev" | &"sys")) {
        return Err(bad("it may not be below /proc, /dev or /sys"));
    }
    Ok(format!("/{}", parts.join("/")))
}

/// Checks all variables of both maps, and that what `execve` must carry fits.
///
/// # Errors
/// See [`env::check`]; or too much text in all.
pub fn check_environment(spec: &JobSpec) -> Result<(), InvalidField> {
    check_exec((&spec.command, &spec.args), &spec.environment, &spec.secrets)
}

/// The same for any command line and its variables.
///
/// # Errors
/// As [`check_environment`].
pub fn check_exec(
    (command, args): (&str, &[String]),
    environment: &[(String, String)],
    secrets: &[(String, Secret)],
) -> Result<(), InvalidField> {
    let plain = environment.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    let secret = secrets.iter().map(|(n, v)| (n.as_str(), v.expose()));
    let mut total = command.len() + args.iter().map(|a| a.len() + 9).sum::<usize>();
    for (name, value) in plain.chain(secret) {
        env::check(name, value)?;
        total += name.len() + value.len() + 10;
    }
    if total > MAX_EXEC_TOTAL {
        return Err(InvalidField::new(format!(
            "command, args and environment have {total} bytes together, at most {MAX_EXEC_TOTAL} fit into execve"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangerous_characters_are_refused_in_the_command_only() {
        for command in ["ls;id", "./a(1).sh"] {
            let text = check_command(command, &[], true).unwrap_err().0;
            assert!(text.starts_with("invalid command: command contains dangerous characters"), "{text}");
            assert!(text.contains("sh") && text.contains("joblet.validateCommands: false"), "{text}");
        }
        assert!(check_command("ls;id", &[], false).is_ok());
        assert!(check_command("sh", &["-c".into(), "a && b | $(c)".into()], true).is_ok());
        for blank in ["", " ", "\t\n", "\u{a0}\u{2003}"] {
            assert_eq!(check_command(blank, &[], false).unwrap_err().0, "command is required", "{blank:?}");
        }
    }

    #[test]
    fn only_a_job_with_a_runtime_writes_its_root() {
        let image: RuntimeSpec = "image".parse().unwrap();
        for (writable, runtime) in [(false, None), (false, Some(&image)), (true, Some(&image))] {
            assert_eq!(check_writable(writable, runtime), Ok(()));
        }
        assert!(check_writable(true, None).unwrap_err().0.starts_with("writable needs a runtime: "));
    }

    #[test]
    fn work_dirs_stay_inside_and_out_of_proc() {
        assert_eq!(work_dir("").unwrap(), "/work");
        assert_eq!(work_dir("a//b/./c").unwrap(), "/work/a/b/c");
        assert_eq!(work_dir("/tmp").unwrap(), "/tmp");
        for bad in ["../x", "/proc/self/fd/7", "/./proc", "/dev", "a/../../b", "x\0"] {
            assert!(work_dir(bad).is_err(), "{bad:?}");
        }
    }
}

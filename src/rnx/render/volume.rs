//! Volumes, as texts and as JSON.

use serde::Serialize;

use super::super::terminal::one_line;
use super::fit::aligned;
use super::words::short;
use crate::job::units::format_size;
use crate::pb::joblet::{
    CreateVolumeRes, GetVolumeRes, ResizeVolumeRes, Volume, VolumeJob, VolumeUsage, Volumes,
};

/// The answer to `volume create`.
pub(crate) fn created(made: &CreateVolumeRes) -> String {
    let name = one_line(&made.name);
    let path =
        if made.path.is_empty() { String::new() } else { format!("  Path: {}\n", one_line(&made.path)) };
    format!(
        "Volume created successfully:\n  Name: {name}\n  Size: {}\n  Type: {}\n{path}\
         Use it with: rnx job run --volume {name} <command>\n",
        one_line(&made.size),
        one_line(&made.type_)
    )
}

/// The answer to `volume remove`.
pub(crate) fn removed(name: &str) -> String {
    format!("Volume '{}' removed successfully\n", one_line(name))
}

/// The table of `volume list`.
pub(crate) fn list(volumes: &[Volume]) -> String {
    if volumes.is_empty() {
        return "No volumes found\n".to_owned();
    }
    let row = |volume: &Volume| {
        [
            one_line(&volume.name),
            one_line(&volume.size),
            one_line(&volume.type_),
            volume.jobCount.to_string(),
            one_line(&volume.createdTime),
        ]
    };
    let head = ["NAME", "SIZE", "TYPE", "JOBS", "CREATED"].map(str::to_owned);
    aligned(std::iter::once(head).chain(volumes.iter().map(row)).collect())
}

/// The text of `volume inspect`.
pub(crate) fn shown(found: &GetVolumeRes) -> String {
    let volume = found.volume.get_or_default();
    let mut text = list(std::slice::from_ref(volume));
    text.push_str(&facts(volume));
    if found.jobs.is_empty() {
        return text;
    }
    let row = |job: &VolumeJob| {
        let name = if job.name.is_empty() { "-".to_owned() } else { one_line(&job.name) };
        [one_line(short(&job.uuid)), name, one_line(&job.status), access(job).to_owned()]
    };
    let head = ["JOB", "NAME", "STATUS", "ACCESS"].map(str::to_owned);
    text.push('\n');
    text.push_str(&aligned(std::iter::once(head).chain(found.jobs.iter().map(row)).collect()));
    text
}

/// The bound of a volume, the room that its files take, and its path: a line for each that is known.
fn facts(volume: &Volume) -> String {
    let usage = volume.usage.as_ref().map(|usage| {
        let VolumeUsage { bytes, files, most_files, .. } = usage;
        format!("{} in {files} of {most_files} files", format_size(*bytes))
    });
    let facts = [("Backend", &*volume.backend), ("Used", &usage.unwrap_or_default()), ("Path", &volume.path)];
    let known = facts.iter().filter(|(_, value)| !value.is_empty());
    let lines: String = known.map(|(word, value)| format!("{word}: {}\n", one_line(value))).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

fn access(job: &VolumeJob) -> &'static str {
    if job.read_only { "read-only" } else { "read-write" }
}

/// The answer to `volume resize`.
pub(crate) fn resized(done: &ResizeVolumeRes) -> String {
    let [name, size, old] = [&done.name, &done.size, &done.old_size].map(|text| one_line(text));
    if size == old {
        return format!("Volume '{name}' has {size} already\n");
    }
    format!("Volume '{name}' resized from {old} to {size}\n")
}

/// The JSON of `volume resize`.
#[derive(Debug, Serialize)]
pub(crate) struct ResizedJson<'a> {
    name: &'a str,
    size: &'a str,
    old_size: &'a str,
}

/// A volume with another size.
pub(crate) fn resized_json(done: &ResizeVolumeRes) -> ResizedJson<'_> {
    ResizedJson { name: &done.name, size: &done.size, old_size: &done.old_size }
}

/// The JSON of `volume inspect`.
#[derive(Debug, Serialize)]
pub(crate) struct ShownJson<'a> {
    #[serde(flatten)]
    volume: VolumeJson<'a>,
    users: Vec<UserJson<'a>>,
}

/// A job of a volume in JSON.
#[derive(Debug, Serialize)]
struct UserJson<'a> {
    uuid: &'a str,
    name: &'a str,
    status: &'a str,
    access: &'static str,
}

/// One volume and its jobs.
pub(crate) fn shown_json(found: &GetVolumeRes) -> ShownJson<'_> {
    fn user(job: &VolumeJob) -> UserJson<'_> {
        UserJson { uuid: &job.uuid, name: &job.name, status: &job.status, access: access(job) }
    }
    ShownJson {
        volume: volume_json(found.volume.get_or_default()),
        users: found.jobs.iter().map(user).collect(),
    }
}

/// A volume in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct VolumeJson<'a> {
    name: &'a str,
    size: &'a str,
    r#type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_time: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    backend: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageJson>,
}

/// The room that the files of a volume take, in JSON.
#[derive(Debug, Serialize)]
struct UsageJson {
    bytes: u64,
    files: u64,
    most_files: u64,
}

fn volume_json(volume: &Volume) -> VolumeJson<'_> {
    VolumeJson {
        name: &volume.name,
        size: &volume.size,
        r#type: &volume.type_,
        path: &volume.path,
        jobs: Some(volume.jobCount),
        created_time: Some(&volume.createdTime),
        backend: &volume.backend,
        usage: volume.usage.as_ref().map(|usage| {
            let VolumeUsage { bytes, files, most_files, .. } = *usage;
            UsageJson { bytes, files, most_files }
        }),
    }
}

/// The JSON of `volume create`.
pub(crate) fn created_json(made: &CreateVolumeRes) -> VolumeJson<'_> {
    VolumeJson {
        name: &made.name,
        size: &made.size,
        r#type: &made.type_,
        path: &made.path,
        jobs: None,
        created_time: None,
        backend: "",
        usage: None,
    }
}

/// The JSON of `volume list`.
#[derive(Debug, Serialize)]
pub(crate) struct VolumesJson<'a> {
    volumes: Vec<VolumeJson<'a>>,
}

/// The volumes of an answer.
pub(crate) fn list_json(found: &Volumes) -> VolumesJson<'_> {
    VolumesJson { volumes: found.volumes.iter().map(volume_json).collect() }
}

/// The JSON of `volume remove`.
#[derive(Debug, Serialize)]
pub(crate) struct RemovedJson<'a> {
    name: &'a str,
    removed: bool,
}

/// A volume that is gone.
pub(crate) fn removed_json(name: &str) -> RemovedJson<'_> {
    RemovedJson { name, removed: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_listed_aligned_and_shown_with_their_paths() {
        let volume = |name: &str, path: &str| Volume {
            name: name.into(),
            size: "64MiB".into(),
            type_: if path.is_empty() { "memory" } else { "filesystem" }.into(),
            path: path.into(),
            createdTime: "2026-01-01T00:00:00Z".into(),
            jobCount: 12,
            ..Volume::default()
        };
        let all = [volume("data", "/v/data.img"), volume("m", "")];
        assert_eq!(
            list(&all),
            "NAME  SIZE   TYPE        JOBS  CREATED\n\
             data  64MiB  filesystem  12    2026-01-01T00:00:00Z\n\
             m     64MiB  memory      12    2026-01-01T00:00:00Z\n"
        );
        assert_eq!(list(&[]), "No volumes found\n");
        let found = |volume: &Volume, jobs| GetVolumeRes {
            volume: Some(volume.clone()).into(),
            jobs,
            ..GetVolumeRes::default()
        };
        assert!(shown(&found(&all[0], Vec::new())).ends_with("\nPath: /v/data.img\n"));
        let quota = Volume {
            backend: "quota".into(),
            usage: Some(VolumeUsage { bytes: 3 << 20, files: 2, most_files: 1024, ..VolumeUsage::default() })
                .into(),
            ..all[0].clone()
        };
        let text = shown(&found(&quota, Vec::new()));
        assert!(
            text.ends_with("\nBackend: quota\nUsed: 3MiB in 2 of 1024 files\nPath: /v/data.img\n"),
            "{text}"
        );
        let json = serde_json::to_value(volume_json(&quota)).unwrap();
        assert_eq!((&json["backend"], &json["usage"]["files"]), (&"quota".into(), &2.into()));
        let job = VolumeJob {
            uuid: "f47ac10b-58cc-4372-a567-0e02b2c3d479".into(),
            status: "RUNNING".into(),
            read_only: true,
            ..VolumeJob::default()
        };
        let text = shown(&found(&all[1], vec![job]));
        assert!(!text.contains("Path"), "{text}");
        assert!(
            text.ends_with("\nJOB       NAME  STATUS   ACCESS\nf47ac10b  -     RUNNING  read-only\n"),
            "{text}"
        );
        let json = serde_json::to_value(volume_json(&all[1])).unwrap();
        assert_eq!((&json["type"], &json["jobs"]), (&"memory".into(), &12.into()));
        assert!(json.get("path").is_none());
    }
}

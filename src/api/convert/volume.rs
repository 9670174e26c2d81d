//! Messages about volumes, both ways.

use super::Refusal;
use super::reply::time;
use super::request::{invalid, repeated};
use crate::daemon::command::{UsageView, VolumeJobView, VolumeView};
use crate::job::{VolumeKind, VolumeName, units};
use crate::pb::joblet::{
    CreateVolumeReq, CreateVolumeRes, GetVolumeRes, RemoveVolumeRes, ResizeVolumeReq, ResizeVolumeRes,
    Volume, VolumeJob, VolumeUsage, Volumes,
};

/// Bytes of the longest text of a size, and of a name that may be that of a volume.
const LONGEST: usize = 64;

/// The name, the kind and the bytes of a volume to make.
///
/// # Errors
/// A name that no volume can have, another type, or no size.
pub(in crate::api) fn create(req: &CreateVolumeReq) -> Result<(VolumeName, VolumeKind, u64), Refusal> {
    let name: VolumeName = req.name.parse()?;
    let kind = VolumeKind::parse(&req.type_, &repeated(&req.type_))?;
    let bytes = size(&req.size).map_err(|why| format!("cannot create volume \"{name}\": {why}"));
    bytes.map(|bytes| (name, kind, bytes)).or_else(invalid)
}

/// The name and the new bytes of a volume to resize.
///
/// # Errors
/// As [`named`], or no size.
pub(in crate::api) fn resize(req: ResizeVolumeReq) -> Result<(String, u64), Refusal> {
    let name = named(req.name)?;
    let bytes = size(&req.size).map_err(|why| format!("cannot resize volume \"{}\": {why}", repeated(&name)));
    bytes.map(|bytes| (name, bytes)).or_else(invalid)
}

fn size(text: &str) -> Result<u64, String> {
    if text.is_empty() || text.len() > LONGEST {
        return Err(format!("size \"{}\" is none such as 512MB or 1GB", repeated(text)));
    }
    units::parse_size(text).map_err(|why| why.to_string())
}

/// The name of a volume that may be there.
///
/// # Errors
/// An empty name, or one that is longer than any.
pub(in crate::api) fn named(name: String) -> Result<String, Refusal> {
    if name.is_empty() || name.len() > LONGEST {
        let shown = repeated(&name);
        return invalid(format!(
            "\"{shown}\" cannot be the name of a volume: it must have 1 to 63 characters"
        ));
    }
    Ok(name)
}

/// The reply to the maker of a volume.
pub(in crate::api) fn created(volume: VolumeView) -> CreateVolumeRes {
    CreateVolumeRes {
        name: volume.name.to_string(),
        size: units::format_size(volume.bytes),
        type_: volume.kind.as_str().to_owned(),
        path: volume.path,
        ..CreateVolumeRes::default()
    }
}

/// The reply to the remover of a volume.
pub(in crate::api) fn removed() -> RemoveVolumeRes {
    RemoveVolumeRes {
        success: true,
        message: "Volume removed successfully".to_owned(),
        ..RemoveVolumeRes::default()
    }
}

/// The reply to whoever gave a volume another size.
pub(in crate::api) fn resized((volume, old): (VolumeView, u64)) -> ResizeVolumeRes {
    ResizeVolumeRes {
        name: volume.name.to_string(),
        size: units::format_size(volume.bytes),
        old_size: units::format_size(old),
        ..ResizeVolumeRes::default()
    }
}

/// One volume and its jobs.
pub(in crate::api) fn shown((view, jobs): (VolumeView, Vec<VolumeJobView>)) -> GetVolumeRes {
    let job = |job: VolumeJobView| VolumeJob {
        uuid: job.id.to_string(),
        name: job.name,
        status: job.status.as_str().to_owned(),
        read_only: job.read_only,
        ..VolumeJob::default()
    };
    GetVolumeRes {
        volume: Some(volume(view)).into(),
        jobs: jobs.into_iter().map(job).collect(),
        ..GetVolumeRes::default()
    }
}

/// The reply with all volumes.
pub(in crate::api) fn list(volumes: Vec<VolumeView>) -> Volumes {
    Volumes { volumes: volumes.into_iter().map(volume).collect(), ..Volumes::default() }
}

fn volume(view: VolumeView) -> Volume {
    Volume {
        name: view.name.to_string(),
        size: units::format_size(view.bytes),
        type_: view.kind.as_str().to_owned(),
        path: view.path,
        createdTime: time(Some(view.created_ns)),
        jobCount: i32::try_from(view.jobs).unwrap_or(i32::MAX),
        backend: view.backend.to_owned(),
        usage: view.usage.map(usage).into(),
        ..Volume::default()
    }
}

fn usage(found: UsageView) -> VolumeUsage {
    let UsageView { bytes, files, most_files } = found;
    VolumeUsage { bytes, files, most_files, ..VolumeUsage::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, size: &str, kind: &str) -> CreateVolumeReq {
        CreateVolumeReq { name: name.into(), size: size.into(), type_: kind.into(), ..Default::default() }
    }

    #[test]
    fn requests_name_a_volume_a_size_and_a_type() {
        let (name, kind, bytes) = create(&asked("data", "1.5GB", "")).unwrap();
        assert_eq!((name.as_str(), kind, bytes), ("data", VolumeKind::Filesystem, 3 << 29));
        assert_eq!(create(&asked("data", "4096", "memory")).unwrap().1, VolumeKind::Memory);
        for (name, size, kind) in [
            ("", "1GB", ""),
            ("a b", "1GB", ""),
            ("data", "", ""),
            ("data", "much", ""),
            ("data", "-1", ""),
            ("data", "1GB", "disk"),
            ("data", &*"1".repeat(1 << 20), ""),
            ("data", "1GB", &*"x".repeat(1 << 20)),
        ] {
            let said = create(&asked(name, size, kind)).unwrap_err().to_string();
            assert!(said.len() < 400 && !said.is_empty(), "{said}");
        }
        assert!(named(String::new()).is_err() && named("x".repeat(1 << 20)).is_err());
    }

    #[test]
    fn volume_is_shown_with_its_size_and_its_jobs() {
        let view = VolumeView {
            name: "data".parse().unwrap(),
            kind: VolumeKind::Filesystem,
            bytes: 64 << 20,
            path: "/opt/joblet/volumes/data.img".into(),
            backend: "image",
            usage: Some(UsageView { bytes: 5, files: 2, most_files: 9 }),
            created_ns: 1_000_000_000,
            jobs: 3,
        };
        let made = created(view.clone());
        assert_eq!((made.size.as_str(), made.type_.as_str()), ("64MiB", "filesystem"));
        let shown = &list(vec![view]).volumes[0];
        assert_eq!((shown.jobCount, shown.path.as_str()), (3, "/opt/joblet/volumes/data.img"));
        assert_eq!((shown.backend.as_str(), shown.usage.bytes, shown.usage.most_files), ("image", 5, 9));
        assert!(shown.createdTime.starts_with("1970-01-01T00:00:01"));
    }
}

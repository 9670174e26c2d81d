//! The thread's part of a change: the disk and the record, in the order of the room's head.

use std::os::fd::AsFd;
use std::sync::Arc;

use log::Level;

use super::{Changed, Task};
use crate::daemon::command::CommandError;
use crate::daemon::standing_store::StandingStore;
use crate::diag;
use crate::job::volume::OWNER;
use crate::sandbox::identity::make_volume_map;
use crate::state::{StoredVolume, VolumeChange};
use crate::volume::{Store, Volume, VolumeError};

/// Makes a change, or nothing of it.
pub(super) fn carry_out(store: &Store, records: &StandingStore, task: Task) -> Changed {
    let Task { mut change, mut volume, answer, under_way } = task;
    let result = match (change.is_there, change.old_bytes) {
        (true, None) => create(store, records, &mut change).map(|made| volume = made),
        (true, Some(old)) => resize(store, records, &change, old, &volume),
        (false, _) => remove(store, records, &change, &volume),
    };
    Changed { change, volume, result, answer, _under_way: under_way }
}

fn create(
    store: &Store,
    records: &StandingStore,
    change: &mut VolumeChange,
) -> Result<Arc<Volume>, CommandError> {
    let StoredVolume { name, kind, bytes, .. } = change.volume.clone();
    let failed = |why: String| CommandError::SetUp(format!("cannot create volume \"{name}\": {why}"));
    store
        .check_room(kind, bytes, 0)
        .map_err(|why| CommandError::Invalid(format!("cannot create volume \"{name}\": {why}")))?;
    let ids = make_volume_map(OWNER, 1).map_err(|why| failed(why.to_string()))?;
    let project = store.new_project(kind).map_err(|why| failed(why.to_string()))?;
    change.volume.project = project;
    let volume = Arc::new(store.volume(name.clone(), kind, bytes, project));
    store.prepare(&volume, ids.as_fd()).map_err(|why| match why {
        VolumeError::InTheWay(_) => CommandError::Exists(format!("cannot create volume \"{name}\": {why}")),
        why => failed(why.to_string()),
    })?;
    if let Err(why) = records.put(change.clone()) {
        store.discard(&volume);
        return Err(failed(why));
    }
    store.publish(&volume).map(|()| volume.clone()).map_err(|why| {
        let undone = records.put(VolumeChange { is_there: false, ..change.clone() });
        store.discard(&volume);
        failed(match undone {
            Ok(()) => why.to_string(),
            Err(also) => format!("{why}; and it may be listed after a restart: {also}"),
        })
    })
}

fn resize(
    store: &Store,
    records: &StandingStore,
    change: &VolumeChange,
    old: u64,
    volume: &Volume,
) -> Result<(), CommandError> {
    let name = &volume.name;
    let failed = |why: String| format!("cannot resize volume \"{name}\": {why}");
    store
        .check_room(change.volume.kind, change.volume.bytes, old)
        .map_err(|why| CommandError::Invalid(failed(why.to_string())))?;
    records.put(change.clone()).map_err(|why| CommandError::SetUp(failed(why)))?;
    volume.resize(change.volume.bytes).map_err(|why| {
        let mut undone = change.clone();
        undone.volume.bytes = old;
        undone.old_bytes = Some(change.volume.bytes);
        let refusal = match records.put(undone) {
            Ok(()) => failed(why.to_string()),
            Err(also) => failed(format!("{why}; and it may have the new size after a restart: {also}")),
        };
        match why {
            VolumeError::InUse { .. } | VolumeError::GrowsUnmounted(_) => CommandError::WrongState(refusal),
            _ => CommandError::SetUp(refusal),
        }
    })
}

fn remove(
    store: &Store,
    records: &StandingStore,
    change: &VolumeChange,
    volume: &Volume,
) -> Result<(), CommandError> {
    let name = &volume.name;
    let failed = |why: String| CommandError::SetUp(format!("cannot remove volume \"{name}\": {why}"));
    store.withdraw(volume).map_err(|why| failed(why.to_string()))?;
    if let Err(why) = records.put(change.clone()) {
        if let Err(also) = store.publish(volume) {
            diag::event!(Level::Error, "a volume has lost its name", volume = name, error = also);
        }
        return Err(failed(why));
    }
    store.discard(volume);
    Ok(())
}

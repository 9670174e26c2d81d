//! The resources of a job, from the first thing that is made for it to the last that is given back.
//!
//! | kind | acquired | given back |
//! |---|---|---|
//! | [`identity`]: host ids, one or 65536, with their user namespace | leased by the loop; the namespace by a spawner | when no file counts for them any more |
//! | [`cgroup`]: limits and accounting | by a spawner, before the clone | by the cleanup thread: killed, removed, tried again while busy |
//! | [`work`]: what is mounted at /work, and the layer over a root that the job may write | by a spawner | with the mounts (tmpfs), or by the removal thread (disk) |
//! | [`network`]: a network namespace, and perhaps an address and a wire ([`wiring`]) | an address by the loop; the rest with the clone, or kept from an earlier job | to the kernel, or kept for a next job where nothing is left in it; an address with its job |
//! | [`names`]: its entry in the resolver | by a spawner, before the payload starts | at once, before its address is another's |
//! | [`ports`]: ports of the host that reach it, and the way into its network | ports by the loop, before the start; the way when somebody comes | at once: another job may have them |
//! | [`mounts`]: the mount namespace | with the clone | closed by the cleanup thread: the kernel takes the mounts apart then |
//! | [`volumes`]: mounts of volumes for it alone | by a spawner, before the payload starts | with the mounts |
//! | [`gpus`]: GPUs for it alone | by the loop, before the start; their nodes by a spawner | at once: no process of the job lives then; the next job has them after a look |
//! | [`runtime`]: the right to its runtime, or to the root in which it builds one | by the loop, at its acceptance | at once: the runtime may be removed then |
//! | [`exit_file`]: the file that PID 1 writes at the end | with the clone | removed by the cleanup thread |
//! | [`note`]: the file about what its network has refused | by a spawner, before the clone | removed by the cleanup thread |
//!
//! [`Resources::acquire`] is the one order in which a job gets them, [`Resources::release`] the one place where all of
//! them are given back, whatever became of the job, and [`Resources::adopt`] says what an earlier daemon's job holds. What
//! takes time goes to a [`Remover`]: the cleanup threads, or at the daemon's start who undoes a start that was under way.
//!
//! The output of a job is none of them: it stays when the job is over. A new kind is a field of [`Resources`], a file beside this one that implements [`Kind`], and its steps in
//! `sandbox/plan.rs`.

mod cgroup;
mod exit_file;
mod gpus;
mod host_watch;
mod identity;
mod ipv6;
mod mounts;
mod names;
mod network;
mod node;
mod note;
mod ports;
mod runtime;
mod volumes;
mod wiring;
mod work;

use std::ffi::CString;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use crate::cgroup::JobCgroup;
use crate::daemon::egress::Egress;
use crate::daemon::egress::keeper::Keeper;
use crate::daemon::gpus::Gpus as GpuTable;
use crate::daemon::networks::Networks;
use crate::daemon::runtimes::Runtimes;
use crate::daemon::volumes::Volumes as VolumeTable;
use crate::job::publish::Published;
use crate::job::{CONTAINER_IDS, GpuLease, JobId, JobSpec, Limits, Profile, User, WireLease};
use crate::network::Lease;
use crate::output::SpoolWriter;
use crate::sandbox::work::{Backing, WorkIds};
use crate::sandbox::{CloneContext, Created, Init, Root, RuntimeRoot, SandboxParts, SandboxSpec};

pub(super) use exit_file::ExitPath;
pub(super) use gpus::{Gpus, variables as gpu_variables};
pub(super) use identity::Identity;
pub(super) use ipv6::Ipv6;
pub(super) use mounts::Mounts;
pub(super) use names::Names;
pub(super) use network::{KeptNetworks, Network, NetworkSource};
pub(super) use node::{Node, StartError};
pub(super) use note::Note;
pub(super) use ports::{PortTable, Ports};
pub(super) use runtime::Runtime;
pub(super) use volumes::{Volumes, mounts as volume_mounts};
pub(super) use wiring::{Wiring, wire_to};
pub(super) use work::{Work, own_disks, scratch_bytes};

/// The host name of a job, which its warm sandbox has already.
pub(super) fn hostname(id: JobId) -> String {
    format!("job-{}", id.short())
}

/// The words by which a kind is found; else the reason why it has none.
pub type Named = Result<&'static str, &'static str>;

/// The request of `--explain`.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// The job that would run.
    pub(super) spec: &'a JobSpec,
    /// Where its identity would come from.
    pub(super) supply: &'a Supply,
    /// Limits that the host cannot enforce.
    pub(super) unenforced: &'a [crate::cgroup::Unenforced],
}

/// A job of an earlier daemon.
#[derive(Debug)]
pub(super) struct Adoption<'a> {
    /// The job's identity.
    pub(super) id: JobId,
    /// The host id in its record.
    pub(super) host_id: Option<u32>,
    /// The request in its record.
    pub(super) spec: &'a JobSpec,
    /// The part of the node that jobs share.
    pub(super) node: &'a Node,
    /// The ports of the host that are to reach it: those of its request, or none where its payload never ran.
    pub(super) published: &'a [Published],
    /// The GPUs in its record.
    pub(super) gpus: &'a [GpuLease],
    /// The address and the wire in its record.
    pub(super) wire: Option<WireLease>,
    /// Where its identity and its address go back to.
    pub(super) supply: &'a mut Supply,
}

/// The stock of things that are lent to jobs and come back from them.
#[derive(Debug)]
pub(super) struct Supply {
    identities: crate::sandbox::identity::Leases,
    // Network namespaces that earlier jobs left clean.
    namespaces: KeptNetworks,
    networks: Networks,
    volumes: VolumeTable,
    gpus: GpuTable,
    runtimes: Runtimes,
    addresses: crate::network::Leases,
    ipv6: Ipv6,
    // The lists that go by these addresses.
    egress: Arc<Egress>,
    // Removes from the router what a job has left there.
    keeper: Keeper,
    ports: PortTable,
}

/// The things that a new [`Supply`] has.
pub(super) struct SupplyParts {
    /// Host ids that are free.
    pub(super) identities: crate::sandbox::identity::Leases,
    /// The networks that there are.
    pub(super) networks: Networks,
    /// The volumes that there are.
    pub(super) volumes: VolumeTable,
    /// The GPUs that there are.
    pub(super) gpus: GpuTable,
    /// The runtimes that there are.
    pub(super) runtimes: Runtimes,
    /// Addresses of networks, and wires.
    pub(super) addresses: crate::network::Leases,
    /// Whether their wires get IPv6 too.
    pub(super) ipv6: Ipv6,
    /// The lists that go by these addresses.
    pub(super) egress: Arc<Egress>,
    /// Removes from the router what a job has left there.
    pub(super) keeper: Keeper,
    /// Ports of the host that reach jobs.
    pub(super) ports: PortTable,
}

impl Supply {
    /// A supply of which nothing is lent.
    pub(super) fn new(parts: SupplyParts) -> Self {
        let SupplyParts {
            identities,
            networks,
            volumes,
            gpus,
            runtimes,
            addresses,
            ipv6,
            egress,
            keeper,
            ports,
        } = parts;
        let namespaces = KeptNetworks::default();
        Supply {
            identities,
            namespaces,
            networks,
            volumes,
            gpus,
            runtimes,
            addresses,
            ipv6,
            egress,
            keeper,
            ports,
        }
    }

    /// The networks that there are.
    pub(super) fn networks(&self) -> &Networks {
        &self.networks
    }

    /// The same, for a change that a client wants.
    pub(super) fn networks_mut(&mut self) -> &mut Networks {
        &mut self.networks
    }

    /// The volumes that there are.
    pub(super) fn volumes(&self) -> &VolumeTable {
        &self.volumes
    }

    /// The same, for a change that a client wants.
    pub(super) fn volumes_mut(&mut self) -> &mut VolumeTable {
        &mut self.volumes
    }

    /// The GPUs that there are.
    pub(super) fn gpus(&self) -> &GpuTable {
        &self.gpus
    }

    /// The same, for what their thread has found.
    pub(super) fn gpus_mut(&mut self) -> &mut GpuTable {
        &mut self.gpus
    }

    /// The runtimes that there are.
    pub(super) fn runtimes(&self) -> &Runtimes {
        &self.runtimes
    }

    /// Ports of the host that reach jobs.
    pub(super) fn ports(&self) -> &PortTable {
        &self.ports
    }

    /// Changes of networks, volumes and runtimes that are under way.
    pub(super) fn under_way(&self) -> usize {
        self.networks.under_way() + self.volumes.under_way() + self.runtimes.under_way()
    }

    /// A network was made or removed, or was not: its addresses are given from now on, or no more.
    pub(super) fn network_changed(&mut self, changed: crate::daemon::networks::Changed) {
        self.networks.take_in(changed, &mut self.addresses);
    }

    /// Nothing is left in the router of the jobs that had these.
    pub(super) fn addresses_free(&mut self, leases: &[Lease]) {
        leases.iter().for_each(|lease| self.addresses.release(lease));
    }

    /// Numbers new wires behind those that an earlier daemon's router has.
    pub(super) fn number_wires_behind(&mut self, wires: impl IntoIterator<Item = (u16, Ipv4Addr)>) {
        self.addresses.go_on_behind(wires);
    }

    /// Has what jobs with addresses are refused looked at from now on.
    pub(super) fn watch_refusals(&self) {
        self.keeper.begin();
    }

    /// Nothing is left in a network namespace: a next job may have it.
    pub(super) fn keep_namespace(&mut self, namespace: OwnedFd) {
        self.namespaces.keep(namespace);
    }

    /// The files that counted for a lease are gone.
    pub(super) fn take_back(&mut self, lease: crate::sandbox::identity::Lease) {
        self.identities.release(lease);
    }

    /// The identity for which files of an earlier daemon's job count; `None`: a job has it, or it is none of ours.
    pub(super) fn identity_of_files(&mut self, id: u32) -> Option<Identity> {
        let lease = self.identities.reserve(id, 1)?;
        Some(Identity::new(lease, User::default(), Profile::Strict))
    }
}

impl Supply {
    /// Leases the ids of a job. `None`: all are in use, or the profile takes more than a lease has.
    pub(in crate::daemon) fn identity(&mut self, user: User, profile: Profile) -> Option<Identity> {
        let lease = self.identities.take_for(profile.ids())?;
        Some(Identity::new(lease, user, profile))
    }

    /// Why [`Supply::identity`] has none for a job of this profile.
    pub(in crate::daemon) fn no_identity(&self, profile: Profile) -> String {
        if profile.ids() > self.identities.each() {
            // A job that an earlier daemon accepted.
            return format!(
                "a job of the profile {} needs {CONTAINER_IDS} host ids; set process.idsPerJob: {CONTAINER_IDS}",
                profile.as_str()
            );
        }
        "all host ids are in use; raise process.subidCount".to_owned()
    }

    /// Takes ids back that no job had.
    pub(in crate::daemon) fn forgo(&mut self, identity: Identity) {
        self.identities.release(identity.into_lease());
    }

    /// Takes an address back, at once or when nothing of its job is left in the router.
    fn leave(&mut self, lease: Lease) {
        if self.egress.leave(lease.address) {
            // Next-fit: long before it is given again the kernel has taken the wire apart.
            self.addresses.release(&lease);
        } else {
            self.keeper.clear(lease);
        }
    }
}

/// Everything that one job holds. An empty field was not acquired, or is given back.
#[derive(Debug, Default)]
pub(super) struct Resources {
    /// Its host id.
    pub(super) identity: Option<Identity>,
    /// Its cgroup, with its limits.
    pub(super) cgroup: Option<JobCgroup>,
    /// Its /work: a directory or a tmpfs.
    pub(super) work: Option<Work>,
    /// Its network: a namespace that may be used again, or an address and a wire.
    pub(super) network: Option<Network>,
    /// Its names in the resolver.
    pub(super) names: Option<Names>,
    /// Ports of the host that reach it, and the way into its network.
    pub(super) ports: Option<Ports>,
    /// Its mount namespace.
    pub(super) mounts: Option<Mounts>,
    /// The volumes that it has.
    pub(super) volumes: Option<Volumes>,
    /// The GPUs that it has.
    pub(super) gpus: Option<Gpus>,
    /// Its runtime. A job that waits has it too.
    pub(super) runtime: Option<Runtime>,
    /// Its exit file.
    pub(super) exit_file: Option<ExitPath>,
    /// The file about its denials.
    pub(super) note: Option<Note>,
}

/// Takes the part of what jobs leave that takes time to remove.
pub(super) trait Remover {
    /// A mount namespace, to be closed.
    fn close(&mut self, namespace: OwnedFd);
    /// A network namespace, which may be kept.
    fn look_into_network(&mut self, namespace: OwnedFd);
    /// A directory in place of /work; the lease is free when its files are gone.
    fn remove_work(&mut self, directory: CString, lease: Option<crate::sandbox::identity::Lease>);
    /// Takes a file, to be removed.
    fn remove_file(&mut self, path: PathBuf);
    /// A cgroup, with whatever is in it.
    fn remove_cgroup(&mut self, group: JobCgroup);
}

/// The name, the step and the layer of each kind, for the test that looks for them.
pub fn kinds() -> Vec<(&'static str, Named, Named)> {
    fn of<K: Kind>() -> (&'static str, Named, Named) {
        (K::NAME, K::STEP, K::LAYER)
    }
    vec![
        of::<Identity>(),
        of::<JobCgroup>(),
        of::<Work>(),
        of::<Network>(),
        of::<Names>(),
        of::<Ports>(),
        of::<Mounts>(),
        of::<Volumes>(),
        of::<Gpus>(),
        of::<Runtime>(),
        of::<ExitPath>(),
        of::<Note>(),
    ]
}

/// What `--explain` says of all kinds before the steps of the child.
pub(super) fn explain(node: &Node, asked: &Asked<'_>) -> Vec<String> {
    let mut said = Ports::explain(node, asked);
    said.extend(Gpus::explain(node, asked));
    said.extend(JobCgroup::explain(node, asked));
    said.extend(Identity::explain(node, asked));
    said.extend(Work::explain(node, asked));
    said.extend(Volumes::explain(node, asked));
    said.extend(Mounts::explain(node, asked));
    said.extend(Runtime::explain(node, asked));
    said.extend(Note::explain(node, asked));
    said.extend(Network::explain(node, asked));
    said.extend(Names::explain(node, asked));
    said.push(network::explain_clone(node, &asked.spec.network));
    said.extend(ExitPath::explain(node, asked));
    said
}

/// The root that a job is to have.
#[derive(Debug, Clone, Copy)]
pub(super) struct RootWish<'a> {
    /// That of a runtime; `None`: the host's paths.
    pub(super) root: Option<&'a RuntimeRoot>,
    /// Whether it may write that.
    pub(super) writable: bool,
}

/// The product of [`Resources::acquire`] besides resources.
#[derive(Debug)]
pub(super) struct Acquired {
    /// PID 1, which waits behind its walls.
    pub(super) init: Init,
    /// Read end of its stdout.
    pub(super) stdout: OwnedFd,
    /// Read end of its stderr.
    pub(super) stderr: OwnedFd,
    /// The root of /work, to be filled.
    pub(super) work: OwnedFd,
    /// Where its output goes.
    pub(super) spool: SpoolWriter,
}

/// One kind of thing that a job holds. Without one of these parts a kind does not compile, and `tests/kernel/resources.rs`
/// looks for each of them in a real plan and a real job.
pub(super) trait Kind: Sized {
    /// Name of the field of [`Resources`] and of the file beside this one.
    const NAME: &'static str;
    /// Words of the sentence that `--explain` has for the step that puts it into place.
    const STEP: Named;
    /// Beginning of the name of a layer of `status --security` that shows it.
    const LAYER: Named;

    /// What `--explain` says of it before the steps of the child, in the order of a start.
    fn explain(node: &Node, asked: &Asked<'_>) -> Vec<String>;

    /// This kind as an earlier daemon's job holds it; `None` where there is nothing.
    fn adopt(from: &mut Adoption<'_>) -> Option<Self>;
}

impl Resources {
    /// The resources that the loop itself gives a job that is about to be created.
    pub(super) fn reserved(identity: Identity, network: Option<Network>) -> Self {
        Resources { identity: Some(identity), network, ..Resources::default() }
    }

    /// Gets everything that a job with these limits and this root needs and creates its PID 1, on a spawner or on the pool thread. The order: what
    /// costs nothing to undo first, the clone last, because the child is born in its cgroup.
    ///
    /// # Errors
    /// The resource that could not be had; those acquired before stay in `self` and are to be released.
    pub(super) fn acquire(
        &mut self,
        node: &Node,
        context: &mut CloneContext,
        id: JobId,
        limits: &Limits,
        source: NetworkSource,
        RootWish { root, writable }: RootWish<'_>,
    ) -> Result<Acquired, StartError> {
        let name = id.to_string();
        // Made before anything else of the job: it may take some milliseconds, and stays for the next one.
        let template =
            root.map(|root| node.sandbox.root(root)).transpose().map_err(|e| StartError::from(&e))?;
        let root = template.as_deref().map_or(Root::Host, Root::Runtime);
        let identity = self.identity.as_mut().ok_or_else(|| "no host id was leased".to_owned())?;
        let user_namespace = identity.namespace(limits.pids)?;
        let layer_ids = if writable { identity.layers(limits.pids)? } else { user_namespace.clone() };
        let (user, profile) = (identity.user(), identity.profile());
        let ids = WorkIds { owner: identity.owner(), project: identity.host_id() };
        let layer = writable.then(|| work::Layer { root, owner: identity.root() });
        let create = if node.live_only { SpoolWriter::create_ring } else { SpoolWriter::create };
        let spool = create(&node.spool.join(&name)).map_err(|e| e.to_string())?;
        let cgroup = &*self.cgroup.insert(cgroup::acquire(node, id, limits)?);
        let Backing { mount, work } = work::acquire(node, &mut self.work, id, limits, ids, layer)?;
        let hostname = hostname(id);
        // Before it is made: it goes too where the wire is refused.
        self.note = source.is_wired().then(|| Note::of(node, id));
        let lead = source.lead(node, id, &hostname)?;
        let parts = SandboxParts {
            id: &name,
            spec: SandboxSpec {
                hostname: &hostname,
                scratch_bytes: scratch_bytes(limits, node.work_quota),
                pids: limits.pids,
                network: source.as_network(lead.as_ref()),
                user,
                root,
                profile,
                writable,
            },
            work: mount.as_fd(),
            layer_ids: layer_ids.as_fd(),
            user_namespace: user_namespace.as_fd(),
            cgroup: cgroup.dir_fd(),
        };
        let created = node.sandbox.create(context, &parts).map_err(|e| StartError::from(&e));
        if let Some(lead) = lead {
            node.wiring.give_back(lead);
        }
        let created = created?;
        let Created { init, mounts, stdout, stderr } = created;
        self.mounts = Some(Mounts::new(mounts));
        self.exit_file = Some(ExitPath::of(node, id));
        self.network = network::acquire(source, &init, node.reuse_networks);
        Ok(Acquired { init, stdout, stderr, work, spool })
    }

    /// Gives everything back. The destructuring is meant: a new kind does not compile until it is given back here.
    pub(super) fn release(self, supply: &mut Supply, remover: &mut impl Remover) {
        let Resources {
            identity,
            cgroup,
            work,
            network,
            names,
            ports,
            mounts,
            volumes,
            gpus,
            runtime,
            exit_file,
            note,
        } = self;
        // First, so that no new connection reaches it.
        drop(ports);
        if let Some(names) = names {
            names.forget();
        }
        if let Some(mounts) = mounts {
            remover.close(mounts.into_namespace());
        }
        drop(volumes);
        // No process of the job has them open any more: its PID 1 is gone, and with it all others.
        drop(gpus);
        if let Some(runtime) = runtime {
            runtime.release(supply);
        }
        match network {
            Some(Network::Kept(namespace)) => remover.look_into_network(namespace),
            Some(Network::Wired { lease, old }) => {
                old.iter().for_each(|old| supply.addresses.release_address(old));
                supply.leave(lease);
            }
            None => {}
        }
        match (work.and_then(Work::into_directory), identity) {
            // The files still count for the host id until they are gone.
            (Some(directory), identity) => remover.remove_work(directory, identity.map(Identity::into_lease)),
            (None, Some(identity)) => supply.identities.release(identity.into_lease()),
            (None, None) => {}
        }
        let files = [exit_file.map(ExitPath::into_path), note.map(Note::into_path)];
        files.into_iter().flatten().for_each(|path| remover.remove_file(path));
        if let Some(cgroup) = cgroup {
            remover.remove_cgroup(cgroup);
        }
    }

    /// The resources of an earlier daemon's job. Its mounts are known only when its PID 1 is found.
    pub(super) fn adopt(from: &mut Adoption<'_>) -> Self {
        Resources {
            identity: Identity::adopt(from),
            cgroup: JobCgroup::adopt(from),
            work: Work::adopt(from),
            network: Network::adopt(from),
            names: Names::adopt(from),
            ports: Ports::adopt(from),
            mounts: Mounts::adopt(from),
            volumes: Volumes::adopt(from),
            gpus: Gpus::adopt(from),
            runtime: Runtime::adopt(from),
            exit_file: ExitPath::adopt(from),
            note: Note::adopt(from),
        }
    }
}

//! NVML's measurements of each GPU, the processes on it, and the driver's reports about it (docs.nvidia.com, NVML API reference).
//!
//! Each function may be missing, because the library is older than it, and each may refuse, because the GPU has no such thing: then
//! its number is absent. Only the process `joblet gpus` calls this.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_int, c_uint, c_ulonglong};

use serde::{Deserialize, Serialize};

use super::nvml::{DeviceNumber, Handle, Memory, Nvml, checked};

/// `NVML_ERROR_GPU_IS_LOST` and `NVML_ERROR_RESET_REQUIRED`.
const LOST: [c_int; 2] = [15, 16];
/// `NVML_ERROR_INSUFFICIENT_SIZE`: the call has told how many there are.
const TOO_SMALL: c_int = 7;
/// The event type `nvmlEventTypeXidCriticalError`.
const XID: u64 = 8;
/// Most reports that are taken in at one time; what is left comes with the next reading.
const REPORTS: usize = 64;
/// Most processes of one GPU that are listed.
const PROCESSES: usize = 1024;
/// The number `NVML_VALUE_NOT_AVAILABLE`.
const NOT_AVAILABLE: u64 = u64::MAX;
/// The field `NVML_FI_DEV_MEMORY_TEMP`.
const MEMORY_TEMPERATURE: c_uint = 82;

type TwoNumbers = unsafe extern "C" fn(Handle, *mut c_uint, *mut c_uint) -> c_int;
type Chosen = unsafe extern "C" fn(Handle, c_uint, *mut c_uint) -> c_int;
type LargeNumber = unsafe extern "C" fn(Handle, *mut c_ulonglong) -> c_int;
type EccCount = unsafe extern "C" fn(Handle, c_uint, c_uint, *mut c_ulonglong) -> c_int;
type Utilization = unsafe extern "C" fn(Handle, *mut Rates) -> c_int;
type Retired = unsafe extern "C" fn(Handle, c_uint, *mut c_uint, *mut c_ulonglong) -> c_int;
type Fields = unsafe extern "C" fn(Handle, c_int, *mut Field) -> c_int;
type Running = unsafe extern "C" fn(Handle, *mut c_uint, *mut Process) -> c_int;
type CreateSet = unsafe extern "C" fn(*mut Handle) -> c_int;
type Register = unsafe extern "C" fn(Handle, c_ulonglong, Handle) -> c_int;
type Wait = unsafe extern "C" fn(Handle, *mut Event, c_uint) -> c_int;

/// Shares of time in percent (`nvmlUtilization_t`).
#[repr(C)]
#[derive(Default)]
struct Rates {
    gpu: c_uint,
    memory: c_uint,
}

/// `nvmlProcessInfo_t`, since version 2 of the calls that list processes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Process {
    pid: c_uint,
    used: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

/// `nvmlFieldValue_t`. Its union is eight bytes.
#[repr(C)]
#[derive(Default)]
struct Field {
    id: c_uint,
    scope: c_uint,
    timestamp: i64,
    latency: i64,
    kind: c_uint,
    result: c_int,
    value: u64,
}

/// An event of the driver (`nvmlEventData_t`).
#[repr(C)]
struct Event {
    device: Handle,
    kind: c_ulonglong,
    number: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

/// A process that computes or draws on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// Its id, in the pid namespace of who asks.
    pub pid: u32,
    /// Its memory on the GPU in bytes, where the driver tells.
    pub memory: Option<u64>,
}

/// One GPU at one moment. A number that the driver does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuReading {
    /// The number of the GPU.
    pub index: u32,
    /// Its UUID; `None`: the driver does not even say that.
    pub uuid: Option<String>,
    /// Why it is of no use any more: the driver's words.
    pub lost: Option<String>,
    /// Xid errors that the driver has reported since the reading before.
    pub xids: Vec<u64>,
    /// The processes that have it in use; `None`: not told.
    pub processes: Option<Vec<GpuProcess>>,
    /// The measurements of the GPU.
    pub figures: GpuFigures,
}

/// The measurements of one GPU: bytes, MHz, watts, degrees Celsius, percent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names and units of JobGPUMetrics, protos/joblet.proto")]
pub struct GpuFigures {
    pub name: Option<String>,
    pub compute_capability: Option<String>,
    pub utilization: Option<f64>,
    pub memory_used: Option<u64>,
    pub memory_total: Option<u64>,
    pub memory_free: Option<u64>,
    pub encoder_util: Option<f64>,
    pub decoder_util: Option<f64>,
    pub sm_clock: Option<u64>,
    pub memory_clock: Option<u64>,
    pub pcie_throughput_rx: Option<f64>,
    pub pcie_throughput_tx: Option<f64>,
    pub temperature: Option<f64>,
    pub temperature_memory: Option<f64>,
    pub power_draw: Option<f64>,
    pub power_limit: Option<f64>,
    pub fan_speed: Option<f64>,
    pub ecc_errors_single: Option<u64>,
    pub ecc_errors_double: Option<u64>,
    pub retired_pages: Option<u64>,
    pub throttle_reasons: Option<u64>,
    pub compute_mode: Option<String>,
}

/// The functions that are there.
#[derive(Debug)]
struct Calls {
    utilization: Option<Utilization>,
    encoder: Option<TwoNumbers>,
    decoder: Option<TwoNumbers>,
    clock: Option<Chosen>,
    pcie: Option<Chosen>,
    temperature: Option<Chosen>,
    fields: Option<Fields>,
    power: Option<DeviceNumber>,
    power_limit: Option<DeviceNumber>,
    fan: Option<DeviceNumber>,
    ecc: Option<EccCount>,
    retired: Option<Retired>,
    throttle: Option<LargeNumber>,
    capability: Option<TwoNumbers>,
    mode: Option<DeviceNumber>,
    computing: Option<Running>,
    drawing: Option<Running>,
    wait: Option<Wait>,
}

/// The library, watched from now on.
#[derive(Debug)]
pub struct NvmlWatch {
    nvml: Nvml,
    calls: Calls,
    /// The set of reports, where the driver has such. It is not freed: with its process, the driver lets go of it.
    reports: Option<Handle>,
    /// The number of each GPU by its handle, for reports.
    numbers: BTreeMap<usize, u32>,
    /// The UUIDs at the beginning: a lost GPU does not tell its own.
    uuids: BTreeMap<u32, String>,
}

impl NvmlWatch {
    /// Loads the library, and has errors of all GPUs reported.
    ///
    /// # Errors
    /// As [`Nvml::open`].
    pub fn open() -> Result<NvmlWatch, String> {
        let nvml = Nvml::open()?;
        let calls = Calls::of(&nvml);
        let mut watch =
            NvmlWatch { nvml, calls, reports: None, numbers: BTreeMap::new(), uuids: BTreeMap::new() };
        let handles: Vec<(u32, Handle)> =
            (0..watch.nvml.count()?).filter_map(|at| Some((at, watch.nvml.handle(at).ok()?))).collect();
        for (index, handle) in &handles {
            watch.numbers.insert(*handle as usize, *index);
            watch.uuids.extend(watch.nvml.uuid(*handle).ok().map(|uuid| (*index, uuid)));
        }
        watch.reports = watch.register(&handles);
        Ok(watch)
    }

    /// `None`: this driver reports nothing.
    fn register(&self, handles: &[(u32, Handle)]) -> Option<Handle> {
        let create: CreateSet = self.nvml.optional(c"nvmlEventSetCreate")?;
        let register: Register = self.nvml.optional(c"nvmlDeviceRegisterEvents")?;
        let mut set: Handle = std::ptr::null_mut();
        // SAFETY: the library is bound, and `set` lives until the call returns.
        checked("nvmlEventSetCreate", unsafe { create(&raw mut set) }).ok()?;
        for (_, handle) in handles {
            // SAFETY: handle and set are the library's own. A GPU that has no reports is refused, and has none.
            let _ = unsafe { register(*handle, XID, set) };
        }
        Some(set)
    }

    /// All GPUs as they are now.
    ///
    /// # Errors
    /// The driver does not even tell how many there are.
    pub fn read(&mut self) -> Result<Vec<GpuReading>, String> {
        let count = self.nvml.count()?;
        let mut reports = self.take_reports();
        let number = count.max(self.uuids.keys().next_back().map_or(0, |last| last + 1));
        let mut all: Vec<GpuReading> = (0..number).map(|index| self.one(index)).collect();
        for reading in &mut all {
            reading.xids = reports.remove(&reading.index).unwrap_or_default();
        }
        Ok(all)
    }

    fn one(&self, index: u32) -> GpuReading {
        let uuid = self.uuids.get(&index).cloned();
        let reading = GpuReading { index, uuid, ..GpuReading::default() };
        let handle = match self.nvml.handle(index) {
            Ok(handle) => handle,
            Err((_, why)) => return GpuReading { lost: Some(why), ..reading },
        };
        let mut memory = Memory::default();
        // SAFETY: the handle is the library's own, and `memory` is an nvmlMemory_t.
        let told = unsafe { (self.nvml.memory)(handle, &raw mut memory) };
        if LOST.contains(&told) {
            return GpuReading { lost: checked("nvmlDeviceGetMemoryInfo", told).err(), ..reading };
        }
        let mut figures = self.calls.figures(handle);
        figures.name = self.nvml.name(handle);
        if told == 0 {
            figures.memory_used = Some(memory.used);
            figures.memory_total = Some(memory.total);
            figures.memory_free = Some(memory.free);
        }
        GpuReading {
            uuid: self.nvml.uuid(handle).ok().or(reading.uuid),
            processes: self.calls.processes(handle),
            figures,
            ..GpuReading { index, ..GpuReading::default() }
        }
    }

    /// Xid errors that wait to be taken in, by the number of their GPU.
    fn take_reports(&self) -> BTreeMap<u32, Vec<u64>> {
        let mut taken: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        let (Some(set), Some(wait)) = (self.reports, self.calls.wait) else { return taken };
        for _ in 0..REPORTS {
            let mut event = Event {
                device: std::ptr::null_mut(),
                kind: 0,
                number: 0,
                gpu_instance: 0,
                compute_instance: 0,
            };
            // SAFETY: the set is the library's own, and `event` is an nvmlEventData_t. It does not wait.
            if unsafe { wait(set, &raw mut event, 0) } != 0 {
                break;
            }
            if let Some(index) = self.numbers.get(&(event.device as usize)).filter(|_| event.kind & XID != 0)
            {
                taken.entry(*index).or_default().push(event.number);
            }
        }
        taken
    }
}

impl Calls {
    fn of(nvml: &Nvml) -> Calls {
        fn either<F: Copy>(nvml: &Nvml, newer: &CStr, older: &CStr) -> Option<F> {
            nvml.optional(newer).or_else(|| nvml.optional(older))
        }
        Calls {
            utilization: nvml.optional(c"nvmlDeviceGetUtilizationRates"),
            encoder: nvml.optional(c"nvmlDeviceGetEncoderUtilization"),
            decoder: nvml.optional(c"nvmlDeviceGetDecoderUtilization"),
            clock: nvml.optional(c"nvmlDeviceGetClockInfo"),
            pcie: nvml.optional(c"nvmlDeviceGetPcieThroughput"),
            temperature: nvml.optional(c"nvmlDeviceGetTemperature"),
            fields: nvml.optional(c"nvmlDeviceGetFieldValues"),
            power: nvml.optional(c"nvmlDeviceGetPowerUsage"),
            power_limit: nvml.optional(c"nvmlDeviceGetEnforcedPowerLimit"),
            fan: nvml.optional(c"nvmlDeviceGetFanSpeed"),
            ecc: nvml.optional(c"nvmlDeviceGetTotalEccErrors"),
            retired: nvml.optional(c"nvmlDeviceGetRetiredPages"),
            throttle: either(
                nvml,
                c"nvmlDeviceGetCurrentClocksEventReasons",
                c"nvmlDeviceGetCurrentClocksThrottleReasons",
            ),
            capability: nvml.optional(c"nvmlDeviceGetCudaComputeCapability"),
            mode: nvml.optional(c"nvmlDeviceGetComputeMode"),
            // Version 1 has a smaller structure; libraries have had version 2 since 2021.
            computing: either(
                nvml,
                c"nvmlDeviceGetComputeRunningProcesses_v3",
                c"nvmlDeviceGetComputeRunningProcesses_v2",
            ),
            drawing: either(
                nvml,
                c"nvmlDeviceGetGraphicsRunningProcesses_v3",
                c"nvmlDeviceGetGraphicsRunningProcesses_v2",
            ),
            wait: either(nvml, c"nvmlEventSetWait_v2", c"nvmlEventSetWait"),
        }
    }

    fn figures(&self, handle: Handle) -> GpuFigures {
        let whole = |number: u32| f64::from(number);
        // The counters of PCIe and of power are in KB/s and mW.
        let thousandth = |number: u32| f64::from(number) / 1000.0;
        GpuFigures {
            utilization: self.utilization(handle).map(whole),
            encoder_util: first(self.encoder, handle).map(whole),
            decoder_util: first(self.decoder, handle).map(whole),
            sm_clock: chosen(self.clock, handle, 1).map(u64::from),
            memory_clock: chosen(self.clock, handle, 2).map(u64::from),
            pcie_throughput_tx: chosen(self.pcie, handle, 0).map(thousandth),
            pcie_throughput_rx: chosen(self.pcie, handle, 1).map(thousandth),
            temperature: chosen(self.temperature, handle, 0).map(whole),
            temperature_memory: self.memory_temperature(handle).map(whole),
            power_draw: number(self.power, handle).map(thousandth),
            power_limit: number(self.power_limit, handle).map(thousandth),
            fan_speed: number(self.fan, handle).map(whole),
            ecc_errors_single: self.ecc(handle, 0),
            ecc_errors_double: self.ecc(handle, 1),
            retired_pages: self.retired(handle),
            throttle_reasons: self.throttle(handle),
            compute_capability: self.capability(handle),
            compute_mode: number(self.mode, handle).and_then(mode).map(str::to_owned),
            ..GpuFigures::default()
        }
    }

    fn utilization(&self, handle: Handle) -> Option<u32> {
        let mut rates = Rates::default();
        // SAFETY: the handle is the library's own, and `rates` is an nvmlUtilization_t.
        let told = unsafe { (self.utilization?)(handle, &raw mut rates) };
        (told == 0).then_some(rates.gpu)
    }

    fn memory_temperature(&self, handle: Handle) -> Option<u32> {
        let mut field = Field { id: MEMORY_TEMPERATURE, ..Field::default() };
        // SAFETY: the handle is the library's own, and `field` is one nvmlFieldValue_t.
        let told = unsafe { (self.fields?)(handle, 1, &raw mut field) };
        // Its type is an unsigned int, the first four bytes of the union.
        (told == 0 && field.result == 0).then_some(field.value as u32).filter(|degrees| *degrees > 0)
    }

    fn ecc(&self, handle: Handle, kind: c_uint) -> Option<u64> {
        let mut count = 0;
        // SAFETY: the handle is the library's own, and `count` lives until the call returns. 0: since the driver was loaded.
        let told = unsafe { (self.ecc?)(handle, kind, 0, &raw mut count) };
        (told == 0).then_some(count)
    }

    /// The pages that were retired for either cause.
    fn retired(&self, handle: Handle) -> Option<u64> {
        let retired = self.retired?;
        let mut sum = 0;
        for cause in [0, 1] {
            let mut count = 0;
            // SAFETY: the handle is the library's own; without room it only counts.
            let told = unsafe { retired(handle, cause, &raw mut count, std::ptr::null_mut()) };
            if told != 0 && told != TOO_SMALL {
                return None;
            }
            sum += u64::from(count);
        }
        Some(sum)
    }

    fn throttle(&self, handle: Handle) -> Option<u64> {
        let mut reasons = 0;
        // SAFETY: the handle is the library's own, and `reasons` lives until the call returns.
        let told = unsafe { (self.throttle?)(handle, &raw mut reasons) };
        (told == 0).then_some(reasons)
    }

    fn capability(&self, handle: Handle) -> Option<String> {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the handle is the library's own, and both numbers live until the call returns.
        let told = unsafe { (self.capability?)(handle, &raw mut major, &raw mut minor) };
        (told == 0).then(|| format!("{major}.{minor}"))
    }

    /// Both kinds of processes; `None`: the library is too old, or does not tell of this GPU.
    fn processes(&self, handle: Handle) -> Option<Vec<GpuProcess>> {
        let mut all = listed(self.computing?, handle)?;
        // GPUs without a display do not tell of it.
        let drawing = self.drawing.and_then(|drawing| listed(drawing, handle)).unwrap_or_default();
        all.extend(drawing);
        all.sort_by_key(|process| process.pid);
        all.dedup_by_key(|process| process.pid);
        Some(all)
    }
}

fn listed(running: Running, handle: Handle) -> Option<Vec<GpuProcess>> {
    let mut room = [Process::default(); PROCESSES];
    let mut count = PROCESSES as c_uint;
    // SAFETY: the handle is the library's own, and `room` has as many nvmlProcessInfo_t as `count` says.
    let told = unsafe { running(handle, &raw mut count, room.as_mut_ptr()) };
    let process = |Process { pid, used, .. }: &Process| GpuProcess {
        pid: *pid,
        memory: Some(*used).filter(|used| *used != NOT_AVAILABLE),
    };
    (told == 0).then(|| room.iter().take(count as usize).map(process).collect())
}

fn number(call: Option<DeviceNumber>, handle: Handle) -> Option<u32> {
    let mut number = 0;
    // SAFETY: the handle is the library's own, and `number` lives until the call returns.
    let told = unsafe { (call?)(handle, &raw mut number) };
    (told == 0).then_some(number)
}

fn chosen(call: Option<Chosen>, handle: Handle, which: c_uint) -> Option<u32> {
    let mut number = 0;
    // SAFETY: the handle is the library's own, and `number` lives until the call returns.
    let told = unsafe { (call?)(handle, which, &raw mut number) };
    (told == 0).then_some(number)
}

/// The first of two numbers; the second is the period of the measurement.
fn first(call: Option<TwoNumbers>, handle: Handle) -> Option<u32> {
    let (mut first, mut period) = (0, 0);
    // SAFETY: the handle is the library's own, and both numbers live until the call returns.
    let told = unsafe { (call?)(handle, &raw mut first, &raw mut period) };
    (told == 0).then_some(first)
}

/// `nvmlComputeMode_t`, in the words of nvidia-smi.
fn mode(number: u32) -> Option<&'static str> {
    ["Default", "Exclusive_Thread", "Prohibited", "Exclusive_Process"].get(number as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_library() {
        assert_eq!((size_of::<Process>(), size_of::<Field>(), size_of::<Event>()), (24, 40, 32));
        assert_eq!((mode(3), mode(4)), (Some("Exclusive_Process"), None));
    }
}

//! NVML, the vendor's library about GPUs: loaded at run time, not linked (docs.nvidia.com, NVML API reference).
//!
//! Only the process `joblet gpus` calls this: what the library does there, a daemon must not do. Its measurements, and losses of
//! GPUs, are read by [`nvml_figures`](super::nvml_figures).

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

/// The library as the linker finds it: `LD_LIBRARY_PATH`, then its cache.
const LIBRARY: &CStr = c"libnvidia-ml.so.1";
/// `NVML_SUCCESS`.
const SUCCESS: c_int = 0;
/// Bytes of the longest UUID and name (`NVML_DEVICE_UUID_V2_BUFFER_SIZE`, `NVML_DEVICE_NAME_V2_BUFFER_SIZE`).
const TEXT: usize = 96;

pub(super) type Handle = *mut c_void;
type Call = unsafe extern "C" fn() -> c_int;
type Count = unsafe extern "C" fn(*mut c_uint) -> c_int;
type DriverText = unsafe extern "C" fn(*mut c_char, c_uint) -> c_int;
type ByIndex = unsafe extern "C" fn(c_uint, *mut Handle) -> c_int;
type DeviceText = unsafe extern "C" fn(Handle, *mut c_char, c_uint) -> c_int;
pub(super) type DeviceNumber = unsafe extern "C" fn(Handle, *mut c_uint) -> c_int;
pub(super) type DeviceMemory = unsafe extern "C" fn(Handle, *mut Memory) -> c_int;
type DeviceModes = unsafe extern "C" fn(Handle, *mut c_uint, *mut c_uint) -> c_int;
type DevicePci = unsafe extern "C" fn(Handle, *mut Pci) -> c_int;

/// `nvmlMemory_t`.
#[repr(C)]
#[derive(Default)]
pub(super) struct Memory {
    pub(super) total: u64,
    pub(super) free: u64,
    pub(super) used: u64,
}

/// `nvmlPciInfo_t`.
#[repr(C)]
struct Pci {
    bus_id_legacy: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    pci_device_id: c_uint,
    pci_subsystem_id: c_uint,
    bus_id: [c_char; 32],
}

/// One GPU, as the library tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvmlDevice {
    /// `GPU-...`.
    pub uuid: String,
    /// The name of the model.
    pub name: String,
    /// The number of its node.
    pub minor: u32,
    /// All of its memory.
    pub memory_bytes: u64,
    /// Its PCI address in the library's spelling.
    pub bus_id: String,
}

/// The functions of the library that are used. It stays loaded as long as the process.
#[derive(Debug)]
pub struct Nvml {
    library: *mut c_void,
    shutdown: Call,
    count: Count,
    driver: DriverText,
    by_index: ByIndex,
    uuid: DeviceText,
    name: DeviceText,
    minor: DeviceNumber,
    pub(super) memory: DeviceMemory,
    pci: DevicePci,
    /// Absent in libraries before driver 450.
    mig: Option<DeviceModes>,
}

impl Nvml {
    /// Loads the library and binds it to the driver.
    ///
    /// # Errors
    /// It is not installed, lacks a function, or the driver refuses, in words.
    pub fn open() -> Result<Nvml, String> {
        // SAFETY: the name is NUL-terminated. Its initialisers run in this process, which exists for that alone.
        let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            return Err(format!("NVML cannot be loaded: {}", load_error()));
        }
        let init: Call = function(library, c"nvmlInit_v2")?;
        let nvml = Nvml {
            library,
            shutdown: function(library, c"nvmlShutdown")?,
            count: function(library, c"nvmlDeviceGetCount_v2")?,
            driver: function(library, c"nvmlSystemGetDriverVersion")?,
            by_index: function(library, c"nvmlDeviceGetHandleByIndex_v2")?,
            uuid: function(library, c"nvmlDeviceGetUUID")?,
            name: function(library, c"nvmlDeviceGetName")?,
            minor: function(library, c"nvmlDeviceGetMinorNumber")?,
            memory: function(library, c"nvmlDeviceGetMemoryInfo")?,
            pci: function(library, c"nvmlDeviceGetPciInfo_v3")?,
            mig: function(library, c"nvmlDeviceGetMigMode").ok(),
        };
        // SAFETY: nvmlInit_v2 has no precondition; the library is loaded and never unloaded.
        checked("nvmlInit_v2", unsafe { init() })?;
        Ok(nvml)
    }

    /// The number of GPUs.
    ///
    /// # Errors
    /// The library's refusal.
    pub fn count(&self) -> Result<u32, String> {
        let mut count = 0;
        // SAFETY: the library is bound, and `count` lives until the call returns.
        checked("nvmlDeviceGetCount_v2", unsafe { (self.count)(&raw mut count) })?;
        Ok(count)
    }

    /// The version of the driver.
    pub fn driver(&self) -> Option<String> {
        let mut text: [c_char; TEXT] = [0; TEXT];
        // SAFETY: the library is bound, and `text` has as many bytes as are named.
        let result = unsafe { (self.driver)(text.as_mut_ptr(), TEXT as c_uint) };
        checked("nvmlSystemGetDriverVersion", result).ok().and_then(|()| spelled(&text).ok())
    }

    /// The library's handle of the GPU of this number, or its refusal, as a number and in words.
    pub(super) fn handle(&self, index: u32) -> Result<Handle, (c_int, String)> {
        let mut handle: Handle = std::ptr::null_mut();
        // SAFETY: the library is bound, and `handle` lives until the call returns.
        let found = unsafe { (self.by_index)(index, &raw mut handle) };
        checked("nvmlDeviceGetHandleByIndex_v2", found).map_err(|why| (found, why))?;
        Ok(handle)
    }

    /// The UUID of a GPU.
    pub(super) fn uuid(&self, handle: Handle) -> Result<String, String> {
        text_of(self.uuid, handle, "nvmlDeviceGetUUID")
    }

    /// The name of its model.
    pub(super) fn name(&self, handle: Handle) -> Option<String> {
        text_of(self.name, handle, "nvmlDeviceGetName").ok()
    }

    /// A function that libraries of some versions have. `F` must be the type that its documentation has for this name.
    pub(super) fn optional<F: Copy>(&self, name: &CStr) -> Option<F> {
        function(self.library, name).ok()
    }

    /// The GPU of this number.
    ///
    /// # Errors
    /// The library's refusal: it has fallen off the bus, or may not be used. Or it is split into MIG instances.
    pub fn device(&self, index: u32) -> Result<NvmlDevice, String> {
        let handle = self.handle(index).map_err(|(_, why)| why)?;
        if self.is_split(handle) {
            return Err(format!(
                "it is split into MIG instances, which joblet does not give to jobs; nvidia-smi -i {index} -mig 0 makes it whole"
            ));
        }
        let (mut minor, mut memory) = (0, Memory::default());
        // SAFETY: the handle is the library's own, and `minor` lives until the call returns.
        checked("nvmlDeviceGetMinorNumber", unsafe { (self.minor)(handle, &raw mut minor) })?;
        // SAFETY: the handle is the library's own, and `memory` is an nvmlMemory_t.
        checked("nvmlDeviceGetMemoryInfo", unsafe { (self.memory)(handle, &raw mut memory) })?;
        let mut pci = Pci {
            bus_id_legacy: [0; 16],
            domain: 0,
            bus: 0,
            device: 0,
            pci_device_id: 0,
            pci_subsystem_id: 0,
            bus_id: [0; 32],
        };
        // SAFETY: the handle is the library's own, and `pci` is an nvmlPciInfo_t.
        checked("nvmlDeviceGetPciInfo_v3", unsafe { (self.pci)(handle, &raw mut pci) })?;
        Ok(NvmlDevice {
            uuid: text_of(self.uuid, handle, "nvmlDeviceGetUUID")?,
            name: text_of(self.name, handle, "nvmlDeviceGetName")?,
            minor,
            memory_bytes: memory.total,
            bus_id: spelled(&pci.bus_id)?,
        })
    }
}

impl Nvml {
    /// Whether MIG is on for a GPU now. Models without it refuse the question.
    fn is_split(&self, handle: Handle) -> bool {
        let Some(mig) = self.mig else { return false };
        let (mut current, mut pending) = (0, 0);
        // SAFETY: the handle is the library's own, and both numbers live until the call returns.
        let asked = unsafe { mig(handle, &raw mut current, &raw mut pending) };
        // `NVML_DEVICE_MIG_ENABLE`.
        asked == SUCCESS && current == 1
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        // SAFETY: it was bound in `open`, and no handle of it is used any more.
        let _ = unsafe { (self.shutdown)() };
    }
}

/// Why dlopen(3) failed.
pub(super) fn load_error() -> String {
    // SAFETY: no other thread of this process loads libraries.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "no reason is known".to_owned();
    }
    // SAFETY: dlerror(3) gives a NUL-terminated text that lives until the next call of dl functions.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

/// A function of the library. `F` must be the type that its documentation has for this name.
fn function<F: Copy>(library: *mut c_void, name: &CStr) -> Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: the library is loaded, and the name NUL-terminated.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    if found.is_null() {
        return Err(format!("NVML is too old: it has no {}", name.to_string_lossy()));
    }
    // SAFETY: a symbol of that name is a function of that type (NVML API reference), as large as a pointer.
    Ok(unsafe { std::mem::transmute_copy(&found) })
}

fn text_of(get: DeviceText, handle: Handle, name: &str) -> Result<String, String> {
    let mut text: [c_char; TEXT] = [0; TEXT];
    // SAFETY: the handle is the library's own, and `text` has as many bytes as are named.
    checked(name, unsafe { get(handle, text.as_mut_ptr(), TEXT as c_uint) })?;
    spelled(&text)
}

/// The text in a buffer, up to its NUL, of characters that a terminal and a variable can have.
fn spelled(buffer: &[c_char]) -> Result<String, String> {
    let bytes: Vec<u8> =
        buffer.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0).collect();
    let text =
        String::from_utf8(bytes).ok().filter(|text| !text.is_empty() && !text.contains(char::is_control));
    text.ok_or_else(|| "it gave a text that is none".to_owned())
}

/// Words for the results that an administrator can do something about (`nvmlReturn_t`).
pub(super) fn checked(call: &str, result: c_int) -> Result<(), String> {
    let why = match result {
        SUCCESS => return Ok(()),
        4 => "no permission",
        6 => "there is no such device",
        8 => "external power is not attached",
        9 => "the driver is not loaded",
        15 => "the GPU has fallen off the bus",
        16 => "the GPU needs a reset",
        18 => "the driver and the library have different versions; restart the host",
        _ => "refused",
    };
    Err(format!("{call}: {why} (NVML {result})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_end_at_their_nul_and_results_have_words() {
        let buffer = |text: &[u8]| text.iter().map(|byte| byte.cast_signed() as c_char).collect::<Vec<_>>();
        assert_eq!(spelled(&buffer(b"GPU-1\0junk")).as_deref(), Ok("GPU-1"));
        for wrong in [&b"\0"[..], b"a\nb\0", b"\xff\0"] {
            assert!(spelled(&buffer(wrong)).is_err(), "{wrong:?}");
        }
        assert_eq!(checked("x", 0), Ok(()));
        assert_eq!(checked("x", 15).unwrap_err(), "x: the GPU has fallen off the bus (NVML 15)");
    }
}

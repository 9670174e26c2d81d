//! CUDA's driver library, for one purpose: to overwrite the memory of a GPU (docs.nvidia.com, CUDA driver API).
//!
//! Only the process `joblet gpus` calls this: what the library does there, a daemon must not do.

use std::ffi::{CStr, c_int, c_uchar, c_uint, c_void};

use super::nvml::load_error;

/// The library as the linker finds it.
const LIBRARY: &CStr = c"libcuda.so.1";
/// The result `CUDA_ERROR_OUT_OF_MEMORY`.
const NO_MEMORY: c_int = 2;
/// Bytes of the largest and of the smallest piece. Smaller ones lie between pages of the driver's own.
const PIECES: (usize, usize) = (1 << 30, 1 << 21);

type Init = unsafe extern "C" fn(c_uint) -> c_int;
type Count = unsafe extern "C" fn(*mut c_int) -> c_int;
type ByNumber = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
type Identity = unsafe extern "C" fn(*mut u8, c_int) -> c_int;
type CreateContext = unsafe extern "C" fn(*mut *mut c_void, c_uint, c_int) -> c_int;
type Allocate = unsafe extern "C" fn(*mut u64, usize) -> c_int;
type Set = unsafe extern "C" fn(u64, c_uchar, usize) -> c_int;
type Finish = unsafe extern "C" fn() -> c_int;

/// Loads the library and nothing more.
///
/// # Errors
/// It is not installed, in words.
pub fn probe() -> Result<(), String> {
    load().map(drop)
}

/// Overwrites with zeros all memory of a GPU, as far as nobody has it, and returns how many bytes those were. The driver takes it
/// back when the process ends.
///
/// # Errors
/// A call of the library that failed.
pub fn zero(uuid: &str) -> Result<u64, String> {
    let wanted = parse(uuid).ok_or_else(|| format!("{uuid} is not the UUID of a GPU"))?;
    let library = load()?;
    let init: Init = function(library, c"cuInit")?;
    let count_devices: Count = function(library, c"cuDeviceGetCount")?;
    let by_number: ByNumber = function(library, c"cuDeviceGet")?;
    let get_uuid: Identity = function(library, c"cuDeviceGetUuid")?;
    let create: CreateContext = function(library, c"cuCtxCreate_v2")?;
    let allocate: Allocate = function(library, c"cuMemAlloc_v2")?;
    let set: Set = function(library, c"cuMemsetD8_v2")?;
    let finish: Finish = function(library, c"cuCtxSynchronize")?;
    // SAFETY: it takes no pointer.
    checked("cuInit", unsafe { init(0) })?;
    let (mut count, mut context) = (0, std::ptr::null_mut());
    // SAFETY: `count` lives until the call returns.
    checked("cuDeviceGetCount", unsafe { count_devices(&raw mut count) })?;
    let mut device = None;
    for number in 0..count {
        let (mut one, mut identity) = (0, [0; 16]);
        // SAFETY: `one` lives until the call returns.
        checked("cuDeviceGet", unsafe { by_number(&raw mut one, number) })?;
        // SAFETY: `identity` is a CUuuid, sixteen bytes, and the device is the library's own.
        checked("cuDeviceGetUuid", unsafe { get_uuid(identity.as_mut_ptr(), one) })?;
        device = device.or((identity == wanted).then_some(one));
    }
    let device = device.ok_or_else(|| format!("libcuda.so.1 knows {count} GPUs, and not {uuid}"))?;
    // SAFETY: `context` lives until the call returns, and the device is the library's own.
    checked("cuCtxCreate_v2", unsafe { create(&raw mut context, 0, device) })?;
    let (mut sum, mut piece) = (0, PIECES.0);
    while piece >= PIECES.1 {
        let mut address = 0;
        // SAFETY: `address` lives until the call returns.
        match unsafe { allocate(&raw mut address, piece) } {
            NO_MEMORY => piece /= 2,
            told => {
                checked("cuMemAlloc_v2", told)?;
                // SAFETY: `address` has `piece` bytes of the GPU, which this process has alone.
                checked("cuMemsetD8_v2", unsafe { set(address, 0, piece) })?;
                sum += piece as u64;
            }
        }
    }
    // SAFETY: it takes no pointer, and the context is current in this thread.
    checked("cuCtxSynchronize", unsafe { finish() })?;
    Ok(sum)
}

fn load() -> Result<*mut c_void, String> {
    // SAFETY: the name is NUL-terminated. Its initialisers run in this process, which exists for that alone.
    let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() { Err(format!("CUDA cannot be loaded: {}", load_error())) } else { Ok(library) }
}

/// A function of the library. `F` must be the type that its documentation has for this name.
fn function<F: Copy>(library: *mut c_void, name: &CStr) -> Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: the library is loaded, and the name NUL-terminated.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    if found.is_null() {
        return Err(format!("libcuda.so.1 has no {}", name.to_string_lossy()));
    }
    // SAFETY: a symbol of that name is a function of that type (CUDA driver API), as large as a pointer.
    Ok(unsafe { std::mem::transmute_copy(&found) })
}

fn checked(call: &str, result: c_int) -> Result<(), String> {
    if result == 0 { Ok(()) } else { Err(format!("{call} refused (CUDA {result})")) }
}

/// The sixteen bytes of `GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
fn parse(uuid: &str) -> Option<[u8; 16]> {
    let digits: String = uuid.strip_prefix("GPU-")?.chars().filter(|letter| *letter != '-').collect();
    u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32).map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_of_a_gpu_is_sixteen_bytes() {
        let bytes = parse("GPU-8b6a7c7e-9f0f-7a4e-3d5f-0a1b2c3d4e5f").unwrap();
        assert_eq!((bytes[0], bytes[15]), (0x8b, 0x5f));
        for wrong in
            ["GPU-1", "8b6a7c7e-9f0f-7a4e-3d5f-0a1b2c3d4e5f", "MIG-8b6a7c7e-9f0f-7a4e-3d5f-0a1b2c3d4e5f"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}

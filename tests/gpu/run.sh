#!/bin/bash
# Jobs on real GPUs: for a host with NVIDIA's driver, as root, in at most four minutes. It changes nothing outside of a directory of
# its own, and ends what it has started.
#
#   tests/gpu/run.sh [DIRECTORY OF joblet, persist, joblet-resolver AND rnx]    default: target/release
#
# It prints one line for each finding, "ok" or "NOT OK", then figures, and ends with 1 where anything is not ok.
set -u
here=$(cd "$(dirname "$0")/../.." && pwd)
bin=$(cd "${1:-$here/target/release}" && pwd) || exit 2
[ "$(id -u)" -eq 0 ] || { echo "run it as root" >&2; exit 2; }
dir=$(mktemp -d /tmp/joblet-gpu.XXXXXX)
daemon=
bad=0

finish() {
    [ -n "$daemon" ] && kill -TERM "$daemon" 2>/dev/null && wait "$daemon"
    [ "$bad" -eq 0 ] && rm -rf "$dir" || echo "logs are in $dir"
}
trap finish EXIT

finding() { # finding WHAT COMMAND...
    local what=$1; shift
    if "$@" >"$dir/said" 2>&1; then echo "ok      $what"; else echo "NOT OK  $what"; sed 's/^/        /' "$dir/said"; bad=1; fi
}

rnx() { "$bin/rnx" --config "$dir/node/rnx-config.yml" "$@"; }

until_true() { # until_true SECONDS COMMAND...: waits for a condition
    local end=$((SECONDS + $1)); shift
    until "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done
}

# start MODE: makes a node of this enforcement and starts it.
start() {
    rm -rf "$dir/node" && mkdir "$dir/node"
    "$bin/joblet" setup --dir "$dir/node" --host localhost --host 127.0.0.1 --port 50951 --enforcement "$1" >/dev/null || return 1
    cat >>"$dir/node/joblet-config.yml" <<YML
gpu:
  enabled: true
  scrub: zero
job_metrics:
  default_sample_rate: 1s
YML
    "$bin/joblet" --foreground --config "$dir/node/joblet-config.yml" >"$dir/daemon.log" 2>&1 &
    daemon=$!
    # It ends at once where it refuses the host.
    until_true 60 sh -c "! kill -0 $daemon 2>/dev/null || '$bin/rnx' --config '$dir/node/rnx-config.yml' gpu list >/dev/null 2>&1" || return 1
    kill -0 "$daemon" 2>/dev/null && return
    daemon=
    return 1
}

echo "driver: $(cat /proc/driver/nvidia/version 2>/dev/null | head -1)"
echo "kernel: $(uname -r), $(date -u +%F)"
finding "joblet gpus answers" "$bin/joblet" gpus
if ! start strict; then
    echo "NOT OK  the node starts in strict mode: $(tail -n 1 "$dir/daemon.log")"
    bad=1
    start best-effort || { echo "NOT OK  the daemon does not answer"; tail "$dir/daemon.log"; exit 1; }
fi
"$bin/joblet" doctor --config "$dir/node/joblet-config.yml" | grep -E '^[a-z]+ +(gpu\.|kernel\.device_program)'
rnx gpu list
all=$(rnx --json gpu list | grep -c '"uuid"')

# CUDA by the driver's own library: no toolkit is needed. Memory is taken and written.
cat >"$dir/cuda.py" <<'PY'
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
def ask(name, *args):
    code = getattr(cuda, name)(*args)
    assert code == 0, f"{name}: {code}"
count, device, context, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
ask("cuInit", 0)
ask("cuDeviceGetCount", ctypes.byref(count))
ask("cuDeviceGet", ctypes.byref(device), 0)
ask("cuCtxCreate_v2", ctypes.byref(context), 0, device)
ask("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(1 << 30))
ask("cuMemsetD8_v2", memory, ctypes.c_ubyte(7), ctypes.c_size_t(1 << 30))
ask("cuCtxSynchronize")
print("gpus", count.value, flush=True)
PY
sees_one() { rnx job run -q --follow --max-memory 8G --gpu 1 --upload "$dir/cuda.py" python3 cuda.py | grep -qx 'gpus 1'; }
lists_one() { [ "$(rnx job run -q --follow --max-memory 2G --gpu 1 nvidia-smi -L | grep -c '^GPU ')" -eq 1 ]; }
status_is() { [ "$(rnx --json job status "$1" | sed -n 's/^ *"status": "\([A-Z]*\)",*$/\1/p' | head -1)" = "$2" ]; }
has_the_driver() { rnx job run -q --follow --gpu 1 sh -c 'ls /run/joblet/gpu/lib/libcuda.so.1 /run/joblet/gpu/bin/nvidia-smi'; }
knows_one() { [ "$(rnx job run -q --follow --gpu 1 ls /proc/driver/nvidia/gpus | wc -l)" -eq 1 ]; }
knows_none() { [ -z "$(rnx job run -q --follow ls /proc/driver/nvidia)" ]; }
opens_no_other() { # the nodes of the host's other GPUs, put into a job's mounts from outside
    local id pid
    id=$(rnx job run -q --gpu 1 sh -c 'until [ -e /volumes/done ]; do sleep 0.1; done; cd /volumes
        for n in nvidia[0-9]; do [ -e /dev/$n ] && continue; { true <$n; } 2>/dev/null && echo "opens $n"; done
        echo tried; exec sleep 60')
    until_true 20 status_is "$id" RUNNING || return 1
    pid=$(grep -l "$id" /proc/[0-9]*/environ 2>/dev/null | head -1 | cut -d/ -f3)
    nsenter -t "$pid" -m sh -c 'umask 0; mount -t tmpfs -o mode=755 none /volumes; for n in 0 1 2 3 4 5 6 7; do
        mknod /volumes/nvidia$n c 195 $n; done; : >/volumes/done' || return 1
    until_true 20 sh -c "'$bin/rnx' --config '$dir/node/rnx-config.yml' job log --no-follow $id | grep -q tried" || return 1
    ! rnx job log --no-follow "$id" | grep opens
    local code=$?
    rnx job stop "$id" >/dev/null
    return $code
}
sees_none() { ! rnx job run -q --follow --max-memory 8G --upload "$dir/cuda.py" python3 cuda.py; }
finding "a job with one GPU computes on it and sees one" sees_one
finding "nvidia-smi in a job lists its GPU alone" lists_one
finding "a job without GPUs finds none" sees_none
finding "a job with a GPU has the driver's libraries and nvidia-smi" has_the_driver
finding "a job with a GPU finds that one alone in /proc" knows_one
finding "a job without GPUs finds none in /proc" knows_none
finding "a job opens no GPU of others, even where its node is put into the job's mounts" opens_no_other

# A job that holds memory for as long as it is measured.
sed 's/^print.*/import time; time.sleep(5)/' "$dir/cuda.py" >"$dir/hold.py"
held=$(rnx job run -q --max-memory 8G --gpu 1 --upload "$dir/hold.py" python3 hold.py)
until_true 60 sh -c "'$bin/rnx' --config '$dir/node/rnx-config.yml' --json job status '$held' | grep -Eq 'COMPLETED|FAILED'"
# The whole of it: a GiB that was written, in a process of the job.
shows_memory() { rnx --json job metrics "$held" | grep -q '"processesMemory":[0-9]\{10,\}'; }
finding "samples of a job show the memory of its process" shows_memory
finding "the GPU is given on when its memory is overwritten" until_true 60 sh -c "'$bin/rnx' --config '$dir/node/rnx-config.yml' --json gpu list | grep -q '\"free\"'"

before=$(nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | sort -n | tail -1)
first=$(rnx job run -q --max-memory 8G --gpu "$all" --upload "$dir/cuda.py" sh -c 'python3 cuda.py && sleep 600')
second=$(rnx job run -q --gpu 1 true)
finding "the first job has all GPUs" until_true 60 status_is "$first" RUNNING
finding "the second one waits" status_is "$second" INITIALIZING
finding "every layer of the first is as promised" rnx job status --security "$first"
rnx job stop "$first" >/dev/null
finding "the second one has its turn when the first has ended" until_true 30 status_is "$second" COMPLETED
is_freed() { [ "$(nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | sort -n | tail -1)" -le "$before" ]; }
finding "its memory is free again" until_true 30 is_freed
finding "every GPU is free" sh -c "! '$bin/rnx' --config '$dir/node/rnx-config.yml' --json gpu list | grep -q in_use"

figures() { # figures WHAT FLAGS...: the median of 21 starts in ms
    local what=$1 i; shift
    for i in $(seq 21); do
        local a=$(date +%s%N); rnx job run -q --wait "$@" true >/dev/null 2>&1; echo $((($(date +%s%N) - a) / 1000))
    done | sort -n | sed -n 11p | awk -v what="$what" '{ printf "figure  %s: median %.1f ms from rnx to rnx\n", what, $1 / 1000 }'
}
figures "without GPU"
figures "with one GPU" --gpu 1
exit $bad

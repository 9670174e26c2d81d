"""Calls a node through the real joblet-sdk-python, over mutual TLS, as its users do; exits with 0 when all calls worked.

    python sdk.py HOST PORT CERTS-DIRECTORY
"""
import datetime
import sys
import time

from joblet import JobletClient
from joblet.services import joblet_pb2

host, port, certs = sys.argv[1], int(sys.argv[2]), sys.argv[3]
terminal = {"COMPLETED", "FAILED", "STOPPED", "CANCELED"}


def the(answer, *names):
    """The value under the first of these names that the answer has: the SDK's versions differ."""
    for name in names:
        if name in answer:
            return answer[name]
    raise KeyError(f"none of {names} in {sorted(answer)}")


# SDK 2.5.2 as published reads fields that its own messages do not have (RunJobResponse.command, Job.name, ...), so its run_job,
# get_job_status and list_jobs fail after any server's answer. There this script uses its stub and messages directly: they
# match our contract.
broken = "command" not in {field.name for field in joblet_pb2.RunJobResponse.DESCRIPTOR.fields}


def run_job(client, **wish):
    if not broken:
        return the(client.jobs.run_job(**wish), "job_uuid")
    uploads = [joblet_pb2.FileUpload(**upload) for upload in wish.pop("uploads", [])]
    return client.jobs.stub.RunJob(joblet_pb2.RunJobRequest(uploads=uploads, **wish)).job_uuid


def list_jobs(client):
    if not broken:
        return {job["uuid"]: job["status"] for job in client.jobs.list_jobs()}
    return {job.uuid: job.status for job in client.jobs.stub.ListJobs(joblet_pb2.EmptyRequest()).jobs}


def get_status(client, uuid):
    if not broken:
        return client.jobs.get_job_status(uuid)
    answer = client.jobs.stub.GetJobStatus(joblet_pb2.GetJobStatusRequest(uuid=uuid))
    return {field.name: getattr(answer, field.name) for field in answer.DESCRIPTOR.fields}


def until(client, uuid, wanted):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        status = get_status(client, uuid)["status"]
        if status in wanted:
            return status
    raise TimeoutError(f"{uuid} is {status}, not {wanted}")


with JobletClient(host=host, port=port, ca_cert_path=f"{certs}/ca-cert.pem", client_cert_path=f"{certs}/client-cert.pem",
                  client_key_path=f"{certs}/client-key.pem") as client:
    # A job with every feature that this release serves, and all of its output.
    uuid = run_job(
        client, command="sh", args=["-c", 'cat greeting.txt; echo "$WHO"; echo "$TOKEN" | wc -c; pwd; exit 3'],
        max_cpu=50, max_memory=128, work_dir="/work/sub", environment={"WHO": "world"}, secret_environment={"TOKEN": "hush"},
        uploads=[{"path": "sub", "is_directory": True}, {"path": "sub/greeting.txt", "content": b"hello\n", "mode": 0o644}])
    assert len(uuid) == 36, uuid
    output = b"".join(client.jobs.get_job_logs(uuid))
    assert output == b"hello\nworld\n5\n/work/sub\n", output
    assert until(client, uuid, terminal) == "FAILED"
    status = get_status(client, uuid[:8])
    assert the(status, "uuid", "job_uuid") == uuid and the(status, "exit_code") == 3, status
    assert "hush" not in str(status), status
    print("run, logs, status: ok")

    # Live output of a running job, then a stop.
    runner = run_job(client, command="sh", args=["-c", "echo ready; exec sleep 1000"])
    live = client.jobs.get_job_logs(runner)
    assert next(live) == b"ready\n"
    # The later contract has other messages for metrics.
    measured = iter([]) if broken else client.jobs.get_job_metrics(runner[:8])
    samples = [] if broken else [next(measured)]
    stopped = client.jobs.stop_job(runner)
    assert the(stopped, "status") == "STOPPED", stopped
    assert b"".join(live) == b""
    samples += measured
    if not broken:
        assert len(samples) >= 2, samples
        assert {sample["job_id"] for sample in samples} == {runner}, samples
        assert all("cpu_usage" in sample and "network_io" in sample and sample["timestamp"] > 1_700_000_000 for sample in samples), samples
        assert len(list(client.jobs.get_job_metrics(uuid))) == 2
    print("live logs, metrics, stop: ok")

    # One scheduled job that is canceled, and one that starts at its time.
    hour = datetime.timedelta(hours=1)
    later = run_job(client, command="true", schedule=(datetime.datetime.now(datetime.timezone.utc) + hour).isoformat())
    assert get_status(client, later)["status"] == "SCHEDULED", get_status(client, later)
    assert the(client.jobs.cancel_job(later), "status") == "CANCELED"
    assert get_status(client, later)["status"] == "CANCELED"
    soon = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)).isoformat()
    timed = run_job(client, command="cat", args=["late.txt"], schedule=soon,
                    uploads=[{"path": "late.txt", "content": b"on time\n", "mode": 0o644}])
    assert b"".join(client.jobs.get_job_logs(timed)) == b"on time\n"
    assert until(client, timed, terminal) == "COMPLETED"
    for job in (later, timed):
        client.jobs.delete_job(job)
    print("schedule, cancel: ok")

    # A volume, whose files outlive the job that wrote them, where the host has them.
    if "--volumes" in sys.argv:
        made = client.volumes.create_volume("sdk-data", "16MB", "filesystem")
        assert the(made, "name") == "sdk-data" and the(made, "size") == "16MiB", made
        for script, wanted in [("echo kept >/volumes/sdk-data/f", b""), ("cat /volumes/sdk-data/f", b"kept\n")]:
            with_volume = run_job(client, command="sh", args=["-c", script], volumes=["sdk-data"])
            assert b"".join(client.jobs.get_job_logs(with_volume)) == wanted
            assert until(client, with_volume, terminal) == "COMPLETED"
            assert list(the(get_status(client, with_volume), "volumes")) == ["sdk-data"]
            client.jobs.delete_job(with_volume)
        found = client.volumes.list_volumes()
        assert [(the(v, "name"), the(v, "type"), the(v, "job_count", "jobCount")) for v in found] == [("sdk-data", "filesystem", 0)], found
        assert the(client.volumes.remove_volume("sdk-data"), "success") is True
        assert list(client.volumes.list_volumes()) == []
        print("volumes: ok")

    listed = list_jobs(client)
    assert listed == {uuid: "FAILED", runner: "STOPPED"}, listed
    try:
        client.jobs.cancel_job(runner)
    except Exception as error:
        print(f"cancel of what is not scheduled: {error}")
    else:
        raise AssertionError("a stopped job was cancelled")
    client.jobs.delete_job(uuid)
    assert the(client.jobs.delete_all_jobs(), "deleted_count") == 1
    assert list_jobs(client) == {}
    try:
        get_status(client, uuid)
    except Exception as error:
        assert "not found" in str(error), error
    else:
        raise AssertionError("a deleted job has a status")
    print("list, delete, delete all: ok")

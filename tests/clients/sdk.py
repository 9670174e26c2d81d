"""Drives a node through the real joblet-sdk-python, over mutual TLS, as its users do; ends with 0 when all of it worked.

    python sdk.py HOST PORT CERTS-DIRECTORY
"""
import sys
import time

from joblet import JobletClient

host, port, certs = sys.argv[1], int(sys.argv[2]), sys.argv[3]
terminal = {"COMPLETED", "FAILED", "STOPPED", "CANCELED"}


def the(answer, *names):
    """The value under the first of the names that the answer has: the SDK's versions differ."""
    for name in names:
        if name in answer:
            return answer[name]
    raise KeyError(f"none of {names} in {sorted(answer)}")


def until(client, uuid, wanted):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        status = the(client.jobs.get_job_status(uuid), "status")
        if status in wanted:
            return status
    raise TimeoutError(f"{uuid} is {status}, not {wanted}")


with JobletClient(host=host, port=port, ca_cert_path=f"{certs}/ca-cert.pem", client_cert_path=f"{certs}/client-cert.pem",
                  client_key_path=f"{certs}/client-key.pem") as client:
    # A job with everything that this release serves, and all of its output.
    started = client.jobs.run_job(
        command="sh", args=["-c", 'cat greeting.txt; echo "$WHO"; echo "$TOKEN" | wc -c; pwd; exit 3'], name="from-the-sdk",
        max_cpu=50, max_memory=128, work_dir="/work/sub", environment={"WHO": "world"}, secret_environment={"TOKEN": "hush"},
        uploads=[{"path": "sub", "is_directory": True}, {"path": "sub/greeting.txt", "content": b"hello\n", "mode": 0o644}])
    uuid = the(started, "job_uuid", "uuid")
    assert len(uuid) == 36, started
    output = b"".join(client.jobs.get_job_logs(uuid))
    assert output == b"hello\nworld\n5\n/work/sub\n", output
    assert until(client, uuid, terminal) == "FAILED"
    status = client.jobs.get_job_status(uuid[:8])
    assert the(status, "uuid", "job_uuid") == uuid and the(status, "exit_code") == 3, status
    assert "hush" not in str(status), status
    print("run, logs, status: ok")

    # Live output of a running job, then a stop.
    runner = the(client.jobs.run_job(command="sh", args=["-c", "echo ready; exec sleep 1000"]), "job_uuid", "uuid")
    live = client.jobs.get_job_logs(runner)
    assert next(live) == b"ready\n"
    stopped = client.jobs.stop_job(runner)
    assert the(stopped, "status") == "STOPPED", stopped
    assert b"".join(live) == b""
    print("live logs, stop: ok")

    listed = {the(job, "uuid", "job_uuid"): the(job, "status") for job in client.jobs.list_jobs()}
    assert listed == {uuid: "FAILED", runner: "STOPPED"}, listed
    try:
        client.jobs.cancel_job(runner)
    except Exception as error:
        print(f"cancel of what is not scheduled: {error}")
    else:
        raise AssertionError("a stopped job was cancelled")
    client.jobs.delete_job(uuid)
    assert the(client.jobs.delete_all_jobs(), "deleted_count") == 1
    assert list(client.jobs.list_jobs()) == []
    try:
        client.jobs.get_job_status(uuid)
    except Exception as error:
        assert "not found" in str(error), error
    else:
        raise AssertionError("a deleted job has a status")
    print("list, delete, delete all: ok")

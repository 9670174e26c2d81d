"""Runs workflows through the real joblet-sdk-python 2.1.1, over mutual TLS; exits with 0 when all calls worked.

    python sdk_workflow.py HOST PORT CERTS-DIRECTORY

The SDK's own get_workflow_status and list_workflows read a field that its messages no longer have, whatever a server
answers. There this script uses the SDK's stub and messages.
"""
import sys
import time

from joblet import JobletClient
from joblet.services import joblet_pb2

host, port, certs = sys.argv[1], int(sys.argv[2]), sys.argv[3]

YAML = """
name: from-python
secret_environment: {TOKEN: hush-of-the-file}
jobs:
  setup:
    command: sh
    args: [-c, 'cat greeting.txt; test "${#TOKEN}" = 16']
    uploads: {files: [greeting.txt]}
  good:
    command: "true"
    requires: [setup: COMPLETED]
  bad:
    command: sh
    args: [-c, "exit 5"]
    requires: [setup: COMPLETED]
  report:
    command: echo
    args: [handled]
    requires:
      - expression: "good=COMPLETED AND bad=FAILED"
  never:
    command: "true"
    requires: [bad: COMPLETED]
"""

with JobletClient(host=host, port=port, ca_cert_path=f"{certs}/ca-cert.pem", client_cert_path=f"{certs}/client-cert.pem",
                  client_key_path=f"{certs}/client-key.pem") as client:
    started = client.jobs.run_workflow("pipeline.yaml", YAML, [{"path": "greeting.txt", "content": b"hello\n"}])
    assert started["status"] == "STARTED" and len(started["workflow_uuid"]) == 36, started
    uuid = started["workflow_uuid"]

    deadline = time.monotonic() + 90
    while True:
        answer = client.jobs.stub.GetWorkflowStatus(joblet_pb2.GetWorkflowStatusRequest(workflowUuid=uuid[:8]))
        if answer.workflow.status in ("COMPLETED", "FAILED", "CANCELED"):
            break
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)
    workflow = answer.workflow
    assert workflow.uuid == uuid and workflow.status == "FAILED", workflow
    assert (workflow.totalJobs, workflow.completedJobs, workflow.failedJobs, workflow.canceledJobs) == (5, 3, 1, 1), workflow
    assert "hush" not in str(answer) and "setup" in workflow.yamlContent, answer
    assert workflow.completedAt.seconds >= workflow.startedAt.seconds >= workflow.createdAt.seconds > 1_700_000_000, workflow

    jobs = {job["job_name"]: job for job in client.jobs.get_workflow_jobs(uuid)}
    assert {name: job["status"] for name, job in jobs.items()} == {
        "setup": "COMPLETED", "good": "COMPLETED", "bad": "FAILED", "report": "COMPLETED", "never": "CANCELED"}, jobs
    assert jobs["bad"]["exit_code"] == 5 and jobs["never"]["job_uuid"] == "0", jobs
    assert jobs["report"]["dependencies"] == ["good", "bad"], jobs
    assert jobs["setup"]["end_time"] >= jobs["setup"]["start_time"], jobs
    assert b"".join(client.jobs.get_job_logs(jobs["setup"]["job_uuid"])) == b"hello\n"

    listed = client.jobs.stub.ListWorkflows(joblet_pb2.ListWorkflowsRequest(includeCompleted=True)).workflows
    assert [one.uuid for one in listed] == [uuid], listed
    assert not client.jobs.stub.ListWorkflows(joblet_pb2.ListWorkflowsRequest()).workflows
    try:
        client.jobs.run_workflow("pipeline.yaml", "jobs: {a: {command: x, requires: [a]}}")
    except Exception as error:
        assert "circular" in str(error) or "itself" in str(error), error
    else:
        raise AssertionError("a circle was accepted")
    print("workflow: ok")

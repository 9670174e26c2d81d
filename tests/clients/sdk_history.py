"""Runs a job through the real joblet-sdk-python, or reads the output of one that has ended; exits with 0 when it worked.

    python sdk_history.py HOST PORT CERTS-DIRECTORY [JOB]

Without JOB it prints the id of a new job; with it, the job's output goes to standard output, byte for byte.
"""
import sys

from joblet import JobletClient
from joblet.services import joblet_pb2

host, port, certs = sys.argv[1], int(sys.argv[2]), sys.argv[3]

with JobletClient(host=host, port=port, ca_cert_path=f"{certs}/ca-cert.pem", client_cert_path=f"{certs}/client-cert.pem",
                  client_key_path=f"{certs}/client-key.pem") as client:
    if len(sys.argv) > 4:
        for part in client.jobs.get_job_logs(sys.argv[4]):
            sys.stdout.buffer.write(part)
    else:
        # Through the stub: version 2.5.2 reads fields that its own messages do not have.
        request = joblet_pb2.RunJobRequest(command="sh", args=["-c", "printf 'a\\000\\377b\\n'; seq 20000"])
        answer = client.jobs.stub.RunJob(request)
        print(getattr(answer, "job_uuid", "") or answer.jobUuid)

"""Installs, builds, tests and removes runtimes through the real joblet-sdk-python, over mutual TLS; exits with 0 when all calls worked.

    python sdk_runtimes.py HOST PORT CERTS-DIRECTORY

Version 2.1.1 installs from files, which 2.5.2 lacks; 2.5.2 builds from a recipe, which 2.1.1 lacks, and reads fields of the
result that its own messages do not have. There this script uses its stub.
"""
import sys

from joblet import JobletClient
from joblet.services import joblet_pb2

host, port, certs = sys.argv[1], int(sys.argv[2]), sys.argv[3]

SCRIPT = b"""set -e
cd "$RUNTIME_DIR"
mkdir files
echo from-python >files/data
echo "made by $JOB_TYPE"
printf 'name: app\\nversion: 1.0.0\\nbase: host\\nlanguage: python\\ndescription: d\\nmounts: [{source: files, target: /opt/app}]\\n' >runtime.yml
"""
RECIPE = """
name: app
version: 1.0.0
description: d
base: {language: python, version: "3"}
hooks: {post_install: "echo built >/opt/runtime/data; echo loud"}
"""

with JobletClient(host=host, port=port, ca_cert_path=f"{certs}/ca-cert.pem", client_cert_path=f"{certs}/client-cert.pem",
                  client_key_path=f"{certs}/client-key.pem") as client:
    runtimes = client.runtimes
    assert list(runtimes.list_runtimes()) == []
    if hasattr(runtimes, "install_runtime_from_local"):
        files = [{"path": "setup.sh", "content": SCRIPT, "executable": True}]
        chunks = list(runtimes.install_runtime_from_local("app", files, stream=True))
        kinds = {chunk["type"] for chunk in chunks}
        assert kinds == {"progress", "log", "result"}, chunks
        said = b"".join(chunk["data"] for chunk in chunks if chunk["type"] == "log")
        assert said == b"made by runtime-build\n", said
        assert chunks[-1]["success"] and chunks[-1]["runtime_spec"] == "app@1.0.0", chunks[-1]
        again = runtimes.install_runtime_from_local("app", files, force_reinstall=True)
        assert again["status"] == "completed" and len(again["build_job_uuid"]) == 36, again
        assert runtimes.validate_runtime_spec("python:3.11-ml")["normalized_spec"] == "python-3.11-ml@latest"
    else:
        valid = runtimes.validate_runtime_yaml(RECIPE)
        assert valid["valid"] and valid["parsed_spec"]["name"] == "app", valid
        wrong = runtimes.validate_runtime_yaml(RECIPE + "pips: []\n")
        assert not wrong["valid"] and "pips" in wrong["errors"][0], wrong
        request = joblet_pb2.BuildRuntimeRequest(yaml_content=RECIPE, verbose=True)
        chunks = list(runtimes.stub.BuildRuntime(request))
        phases = [chunk.phase.phase_number for chunk in chunks if chunk.HasField("phase")]
        assert phases == list(range(1, 11)), phases
        assert "loud" in [chunk.log.message for chunk in chunks if chunk.HasField("log")]
        assert chunks[-1].result.success and chunks[-1].result.runtime_name == "app", chunks[-1]
    (listed,) = runtimes.list_runtimes()
    assert (listed["name"], listed["version"], listed["language"]) == ("app", "1.0.0", "python"), listed
    assert runtimes.get_runtime_info("app@1.0.0")["description"] == "d"
    tested = runtimes.test_runtime("app")
    assert tested["success"] and "Python 3" in tested["output"], tested
    assert runtimes.remove_runtime("app")["success"]
    assert list(runtimes.list_runtimes()) == []
    print("runtimes: ok")

"""Resumes a viewer's TLS session and prints, as JSON, whether that worked and the answers to two calls on it.

    python session.py PORT CERTS-DIRECTORY
"""
import json
import ssl
import sys

import h2

LIST, STOP = (f"/joblet.JobService/{name}" for name in ("ListJobs", "StopJob"))
port, certs = int(sys.argv[1]), sys.argv[2]


class Again:
    """A context that starts with the session of another connection."""

    def __init__(self, context, session):
        self.context, self.session = context, session

    def wrap_socket(self, raw, server_hostname):
        return self.context.wrap_socket(raw, server_hostname=server_hostname, session=self.session)


found = {}
for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
    context = h2.tls(certs, "viewer-client")
    context.minimum_version = context.maximum_version = version
    first = h2.Connection(port, context)
    # The answer comes behind the session's ticket.
    assert first.answers(LIST) == "0", "the control"
    again = h2.Connection(port, Again(context, first.socket.session))
    found[version.name] = [again.socket.session_reused, again.answers(LIST), again.answers(STOP)]
print(json.dumps(found))

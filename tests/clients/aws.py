"""CloudWatch for tests: a real moto server behind a proxy that refuses what AWS refuses and can be made to fail.

moto keeps groups, streams, events and metrics, but accepts requests that AWS does not: batches beyond the limits, gaps of
time, unsigned requests, a subset of dimensions. This proxy checks those rules, by the API references, and notes each break
as a violation. On request it throttles, breaks connections before or after moto has stored the body, hangs, rejects a part,
sends odd headers and so on. It is an instance metadata service (version 2 only) and a container's credential service too.

Usage: aws.py. The first line on stdout is the port. POST /_control takes a JSON object with some of the keys of `State`;
GET /_control returns what was seen. The process ends when its stdin does.
"""
import calendar
import hashlib
import hmac
import http.client
import json
import math
import socket
import struct
import sys
import threading
import time
import urllib.parse
from datetime import datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from moto.server import ThreadedMotoServer

DAY = 24 * 60 * 60 * 1000
RETENTION = {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}


class State:
    """What the tests can set, and what they can read."""

    def __init__(self):
        self.lock = threading.Lock()
        # Answers that the next requests get instead of the true one: {"action": ..., "fault": ...}, each used once.
        self.faults = []
        # All requests get 503.
        self.outage = False
        # Seconds that our clock is ahead of the true one.
        self.clock = 0
        # The keys that sign requests: id -> [secret, token or None].
        self.keys = {"AKIDTEST": ["planted-secret", None]}
        # The JSON of the credential services, and the token that the container's wants.
        self.served = None
        self.container_token = None
        # Most events of a page, and whether each page comes behind an empty one.
        self.page = 10_000
        self.empty_pages = False
        # A text in messages that AWS refuses.
        self.poison = None
        self.retention = {}
        self.dimensions = {}
        self.violations = []
        self.actions = {}
        self.times = []

    def now_ms(self):
        return int((time.time() + self.clock) * 1000)


STATE = State()
MOTO = None


class Refused(Exception):
    """An error in AWS's words."""

    def __init__(self, code, message="", status=400):
        super().__init__(code)
        self.code, self.message, self.status = code, message, status


def violation(rule):
    with STATE.lock:
        STATE.violations.append(rule)
    raise Refused("InvalidParameterException", rule)


def check_signature(handler, body):
    """Signature version 4, as AWS computes it."""
    header = {name.lower(): value for name, value in handler.headers.items()}
    text = header.get("authorization", "")
    if not text.startswith("AWS4-HMAC-SHA256 "):
        raise Refused("MissingAuthenticationTokenException", "no signature", 403)
    parts = dict(part.strip().split("=", 1) for part in text.split(" ", 1)[1].split(","))
    key_id, day, region, service, last = parts["Credential"].split("/")
    keys = STATE.keys.get(key_id)
    if keys is None:
        raise Refused("UnrecognizedClientException", "The security token included in the request is invalid.")
    secret, token = keys
    if header.get("x-amz-security-token") != token:
        raise Refused("ExpiredTokenException", "The security token included in the request is expired")
    date = header["x-amz-date"]
    sent = calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
    names = parts["SignedHeaders"].split(";")
    path, _, query = handler.path.partition("?")
    canonical = "\n".join(
        [handler.command, path, query]
        + [f"{name}:{' '.join(header[name].split())}" for name in names]
        + ["", ";".join(names), hashlib.sha256(body).hexdigest()]
    )
    scope = "/".join([day, region, service, last])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for word in (day, region, service, last):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    wanted = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    if abs(sent - STATE.now_ms() / 1000) > 300:
        # AWS repeats what was signed, session token included.
        raise Refused("InvalidSignatureException", f"Signature expired: {date}\nThe canonical string was\n{canonical}")
    if wanted != parts["Signature"]:
        with STATE.lock:
            STATE.violations.append("signature")
        raise Refused("InvalidSignatureException", f"does not match\n{canonical}")


def put_events(request):
    """Checks a PutLogEvents; the request that moto gets, and what is rejected."""
    events = request.get("logEvents") or violation("1 to 10000 events")
    if len(events) > 10_000:
        violation("1 to 10000 events")
    times = [event["timestamp"] for event in events]
    if any(not event["message"] for event in events):
        violation("an empty message")
    if any(len(event["message"].encode()) + 26 > 1_048_576 for event in events):
        violation("an event of more than 1 MB")
    if sum(len(event["message"].encode()) + 26 for event in events) > 1_048_576:
        violation("a batch of more than 1 MiB")
    if times != sorted(times):
        violation("events out of order")
    if STATE.poison and any(STATE.poison in event["message"] for event in events):
        raise Refused("InvalidParameterException", "a message that AWS does not take")
    now = STATE.now_ms()
    days = min(14, STATE.retention.get(request["logGroupName"], 14))
    valid = [event for event in events if now - days * DAY <= event["timestamp"] <= now + 2 * 60 * 60 * 1000]
    if len(valid) < len(events):
        with STATE.lock:
            STATE.violations.append("events too old or too new")
    if valid and valid[-1]["timestamp"] - valid[0]["timestamp"] > DAY:
        violation("a span of more than 24 hours")
    with STATE.lock:
        STATE.times += times
    rejected = None
    if len(valid) < len(events):
        old = sum(event["timestamp"] < now - days * DAY for event in events)
        rejected = {"tooOldLogEventEndIndex": old} if old else {"tooNewLogEventStartIndex": len(valid)}
    return dict(request, logEvents=valid), rejected


def put_data(form):
    """Checks a PutMetricData."""
    data = {}
    for name, value in form.items():
        if name.startswith("MetricData.member."):
            number, _, key = name[len("MetricData.member.") :].partition(".")
            data.setdefault(number, {})[key] = value
    if not 1 <= len(data) <= 1000:
        violation("1 to 1000 data")
    now = STATE.now_ms() / 1000
    for datum in data.values():
        time_s = datetime.fromisoformat(datum["Timestamp"].replace("Z", "+00:00")).timestamp()
        if not now - 14 * 86400 <= time_s <= now + 7200:
            violation("a datum of more than two weeks ago or two hours ahead")
        numbers = [float(value) for key, value in datum.items() if key.startswith("StatisticValues.") or key == "Value"]
        if not numbers or not all(math.isfinite(number) for number in numbers):
            violation("a number that is not finite")
        names = {key.split(".")[2]: {} for key in datum if key.startswith("Dimensions.member.")}
        if len(names) > 30:
            violation("more than 30 dimensions")
        pairs = frozenset(
            (datum[f"Dimensions.member.{n}.Name"], datum[f"Dimensions.member.{n}.Value"]) for n in names
        )
        STATE.dimensions.setdefault((form["Namespace"], datum["MetricName"]), set()).add(pairs)


def get_statistics(form):
    """Checks a GetMetricStatistics. False: AWS finds no metric with exactly these dimensions."""
    moment = lambda name: datetime.fromisoformat(form[name].replace("Z", "+00:00")).timestamp()
    points = (moment("EndTime") - moment("StartTime")) / int(form["Period"])
    if points > 1440:
        violation("more than 1440 points")
    numbers = {key.split(".")[2] for key in form if key.startswith("Dimensions.member.")}
    pairs = frozenset((form[f"Dimensions.member.{n}.Name"], form[f"Dimensions.member.{n}.Value"]) for n in numbers)
    return pairs in STATE.dimensions.get((form["Namespace"], form["MetricName"]), set())


class Proxy(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def date_time_string(self, timestamp=None):
        return formatdate(time.time() + STATE.clock, usegmt=True)

    def answer(self, status, body, kind="application/x-amz-json-1.1", header=()):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in header:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, error, is_logs):
        if is_logs:
            self.answer(error.status, json.dumps({"__type": error.code, "message": error.message}))
        else:
            code = error.code.removesuffix("Exception")
            text = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{error.message}</Message></Error></ErrorResponse>"
            self.answer(error.status, text, "text/xml")

    def reset(self):
        """Ends the connection with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
        self.wfile = open("/dev/null", "wb")

    def moto(self, body):
        connection = http.client.HTTPConnection(*MOTO, timeout=60)
        header = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "content-length")}
        connection.request(self.command, self.path, body, header)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("content-type") or "text/plain"

    def delete_group(self, group):
        """As an administrator would, past the proxy's checks. moto looks at the region of the credentials only."""
        header = {
            "x-amz-target": "Logs_20140328.DeleteLogGroup",
            "content-type": "application/x-amz-json-1.1",
            "authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/logs/aws4_request, SignedHeaders=h, Signature=s",
        }
        connection = http.client.HTTPConnection(*MOTO, timeout=60)
        connection.request("POST", "/", json.dumps({"logGroupName": group}), header)
        status = connection.getresponse().status
        assert status == 200, status

    def do_PUT(self):
        if self.path == "/latest/api/token" and self.headers["x-aws-ec2-metadata-token-ttl-seconds"]:
            return self.answer(200, "imds-token", "text/plain")
        return self.answer(403, "")

    def do_GET(self):
        if self.path == "/_control":
            with STATE.lock:
                seen = {"violations": STATE.violations, "actions": STATE.actions, "times": STATE.times}
                return self.answer(200, json.dumps(dict(seen, retention=STATE.retention, left=len(STATE.faults))))
        if self.path == "/container":
            known = STATE.container_token and self.headers["authorization"] == STATE.container_token
            return self.answer(200, json.dumps(STATE.served)) if known else self.answer(401, "")
        if self.headers["x-aws-ec2-metadata-token"] != "imds-token":
            return self.answer(401, "")
        role = "/latest/meta-data/iam/security-credentials/"
        known = {role: "node", role + "node": json.dumps(STATE.served), "/latest/meta-data/placement/region": "eu-central-1"}
        if self.path in known and (STATE.served or not self.path.startswith(role)):
            return self.answer(200, known[self.path], "text/plain")
        return self.answer(404, "")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        if self.path == "/_control":
            wishes = json.loads(body)
            if group := wishes.pop("delete_group", None):
                self.delete_group(group)
            with STATE.lock:
                for name, value in wishes.items():
                    setattr(STATE, name, value)
            return self.answer(200, "{}")
        target = self.headers["x-amz-target"] or ""
        is_logs = target.startswith("Logs_20140328.")
        form = {} if is_logs else dict(urllib.parse.parse_qsl(body.decode()))
        action = target.split(".", 1)[1] if is_logs else form.get("Action", "")
        with STATE.lock:
            STATE.actions[action] = STATE.actions.get(action, 0) + 1
            found = next((n for n, fault in enumerate(STATE.faults) if fault["action"] == action), None)
            fault = STATE.faults.pop(found)["fault"] if found is not None else None
        try:
            if STATE.outage:
                raise Refused("ServiceUnavailableException", "outage", 503)
            check_signature(self, body)
            self.serve(action, is_logs, form, body, fault)
        except Refused as error:
            self.refuse(error, is_logs)

    def serve(self, action, is_logs, form, body, fault):
        if fault == "throttle":
            raise Refused("ThrottlingException", "Rate exceeded")
        if fault == "error":
            return self.answer(500, "<html>oh</html>", "text/html")
        if fault == "denied":
            raise Refused("AccessDeniedException", "not authorized")
        if fault == "portal":
            return self.answer(200, "<html>please log in</html>", "text/html")
        if fault == "reset":
            return self.reset()
        if fault == "hang":
            self.rfile.read(1)
            return self.reset()
        rejected, found = None, True
        if action == "PutLogEvents":
            request, rejected = put_events(json.loads(body))
            if fault == "reject":
                # A part is stored, and the indices are those of moto, not of AWS.
                half = len(request["logEvents"]) // 2
                request["logEvents"], rejected = request["logEvents"][half:], {"tooOldLogEventEndIndex": half}
            body = json.dumps(request).encode()
            if not request["logEvents"]:
                return self.answer(200, json.dumps({"rejectedLogEventsInfo": rejected}))
        elif action == "PutRetentionPolicy":
            request = json.loads(body)
            if request["retentionInDays"] not in RETENTION:
                violation("a retention that does not exist")
            STATE.retention[request["logGroupName"]] = request["retentionInDays"]
        elif action == "GetLogEvents":
            return self.page(json.loads(body))
        elif action == "PutMetricData":
            if len(body) > 1_000_000:
                violation("a request of more than 1 MB")
            put_data(form)
        elif action == "GetMetricStatistics":
            found = get_statistics(form)
        status, answer, kind = self.moto(body)
        if fault == "reset_after":
            return self.reset()
        if fault == "cut":
            self.send_response(200)
            self.send_header("content-length", "999")
            self.end_headers()
            self.wfile.write(b"{")
            return self.reset()
        # An answer without points has an empty element instead.
        if not found and b"<Datapoints>" in answer:
            answer = answer[: answer.index(b"<Datapoints>")] + b"<Datapoints/>" + answer[answer.index(b"</Datapoints>") + 13 :]
        if rejected:
            answer = json.dumps(dict(json.loads(answer), rejectedLogEventsInfo=rejected)).encode()
        odd = [("x-odd", "caf\u00e9 \u00ff")] if fault == "header" else []
        return self.answer(status, answer, kind, odd)

    def page(self, request):
        """GetLogEvents in small pages, each behind an empty one."""
        token = request.get("nextToken") or ""
        marked = token.startswith("empty:")
        request["limit"] = min(request.get("limit") or 10_000, STATE.page)
        if marked:
            request["nextToken"] = token.removeprefix("empty:")
        status, answer, kind = self.moto(json.dumps(request).encode())
        if status == 200 and STATE.empty_pages and token:
            page = json.loads(answer)
            if not marked:
                page["events"], page["nextForwardToken"] = [], "empty:" + token
            elif page["nextForwardToken"] == request["nextToken"]:
                page["nextForwardToken"] = token
            answer = json.dumps(page).encode()
        return self.answer(status, answer, kind)


def main():
    global MOTO
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    MOTO = server.get_host_and_port()
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    print(proxy.server_address[1], flush=True)
    sys.stdin.read()


main()

"""As much of W&B's server as uploading numbers and reading them takes.

It keeps what it is sent, line by line, as the real one does, and gives it back as the real one gives what it has not
exported to files yet.
"""

import gzip
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

KEY = "a" * 40


class Server(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.history = {}  # run -> rows as JSON
        self.facts = {}  # run -> what it was last said to be
        self.summaries = {}  # run -> JSON
        self.asked = []  # names of the runs whose history was read
        self.down = False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def steps(self, run):
        return [json.loads(line)["_step"] for line in self.history[run]]

    def resume_status(self, values):
        name = values["name"]
        if name not in self.facts:
            return {
                "model": {
                    "id": "p",
                    "name": values["project"],
                    "entity": {"id": "e", "name": "us"},
                    "bucket": None,
                }
            }
        lines = self.history[name]
        bucket = {
            "id": name, "name": name, "summaryMetrics": lines[-1] if lines else "{}", "displayName": name,
            "logLineCount": 0, "historyLineCount": len(lines), "eventsLineCount": 0, "historyTail": json.dumps(lines[-1:]),
            "eventsTail": "[]", "config": "{}", "tags": [], "notes": "", "wandbConfig": '{"t": 1}',
        }  # fmt: skip
        project = {"id": "p", "name": values["project"], "entity": {"id": "e", "name": "us"}}
        return {"model": project | {"bucket": bucket}}

    def upsert(self, values):
        name = values["name"]
        known = self.facts.setdefault(name, {})
        known |= {key: value for key, value in values.items() if value is not None}
        self.history.setdefault(name, [])
        project = {"id": "p", "name": known["project"], "entity": {"id": "e", "name": "us"}}
        bucket = {
            "id": name, "name": name, "displayName": name, "description": "", "config": "{}", "sweepName": None,
            "project": project, "historyLineCount": len(self.history[name]),
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": len(known) == 0}}

    def stream(self, run, files):
        sent = files.get("wandb-history.jsonl", {"offset": 0, "content": []})
        first = sent["offset"]
        self.history.setdefault(run, [])[first : first + len(sent["content"])] = sent["content"]
        if "wandb-summary.json" in files:
            self.summaries[run] = files["wandb-summary.json"]["content"][-1]

    def runs(self):
        """All runs of the one project that there is."""
        edges = [{"cursor": name, "node": self.node(name)} for name in self.facts]
        page = {"endCursor": None, "hasNextPage": False}
        return {
            "internalId": "1",
            "runCount": len(edges),
            "readOnly": False,
            "runs": {"edges": edges, "pageInfo": page},
        }

    def node(self, name):
        facts = self.facts[name]
        return {
            "id": name, "projectId": "1", "name": name, "displayName": name, "sweepName": None, "state": "finished",
            "tags": facts.get("tags") or [], "config": facts.get("config", "{}"), "group": facts.get("groupName"),
            "jobType": facts.get("jobType"), "commit": facts.get("commit"), "readOnly": False, "description": None,
            "createdAt": "2026-01-01T00:00:00", "heartbeatAt": f"2026-01-01T00:00:{len(self.history[name]) % 60:02}",
            "notes": None, "systemMetrics": "{}", "summaryMetrics": self.summaries.get(name, "{}"),
            "historyLineCount": len(self.history[name]), "user": {"name": "us", "username": "us"}, "historyKeys": None,
        }  # fmt: skip

    def reply(self, asked, query, values):
        """Answer a question; None: it is not served here."""
        if asked == "RunResumeStatus":
            return self.resume_status(values)
        if asked == "UpsertBucket":
            return self.upsert(values)
        if asked == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        return self.read(query, values)

    def read(self, query, values):
        """Answer a question of the public API."""
        if "query Runs(" in query:
            return {"project": self.runs() if values["project"] == "ours" else None}
        if "query RunHistoryKeys(" in query:
            return {
                "project": {"run": {"historyKeys": {"lastStep": self.steps(values["name"])[-1], "keys": {}}}}
            }
        if "query RunParquetHistory" in query:
            live = [{"_step": step} for step in self.steps(values["runName"])]
            return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": live}}}}
        if "query HistoryPage" in query:
            self.asked.append(values["run"])
            wanted = range(values["minStep"], values["maxStep"])
            lines = self.history[values["run"]]
            page = [line for line in lines if json.loads(line)["_step"] in wanted]
            return {"project": {"run": {"history": page}}}
        if "viewer" in query:
            return {
                "viewer": {
                    "id": "u",
                    "entity": "us",
                    "username": "us",
                    "email": "",
                    "flags": "{}",
                    "teams": {"edges": []},
                }
            }
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.answer({})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if not self.path.endswith(("/graphql", "/file_stream")):
            return self.answer({})  # how W&B's own code fares
        said, server = json.loads(body), self.server
        if server.down:
            return self.answer({"errors": [{"message": "no"}]}, 403)
        if self.path.endswith("/file_stream"):
            server.stream(urlsplit(self.path).path.split("/")[-2], said.get("files") or {})
            return self.answer({"limits": {}})
        found = server.reply(said.get("operationName"), said["query"], said.get("variables") or {})
        return self.answer(
            {"data": found, **({} if found else {"errors": [{"message": "is not served here"}]})}
        )

    def answer(self, value, code=200):
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()

"""An S3 server on loopback that fails on purpose: moto's application, with a faulty front."""

import threading
from contextlib import contextmanager

import s3fs
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

import frostline as fl
from frostline.core import shelf

# What a client must say, and what no error, manifest or file may show.
SECRET = "wJalrXUtnFEMI-not-to-be-shown"
# A busy machine answers late; a server that hangs is given up soon.
SOON = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 2, "retries": {"max_attempts": 0}}}


class Front:
    """Passes requests on to an application; those that `fault` chooses get another answer.

    Attributes:
        fault: callable(method, path, number) -> None, a status, "cut" (the body ends early) or "hang".
        seen: (method, path) of every request.
    """

    def __init__(self, application):
        self.application, self.fault, self.seen = application, lambda *_: None, []
        self.released = threading.Event()

    def __call__(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.seen.append((method, path))
        fault = self.fault(method, path, len(self.seen))
        if fault == "hang":
            self.released.wait(30)
            fault = 503
        if isinstance(fault, int):
            names = {
                409: "ConditionalRequestConflict",
                412: "PreconditionFailed",
                500: "InternalError",
                503: "SlowDown",
            }
            body = f"<Error><Code>{names[fault]}</Code><Message>on purpose</Message></Error>".encode()
            start_response(f"{fault} on purpose", [("Content-Type", "application/xml"), ("Connection", "close")])
            return [body]
        if fault == "cut":
            whole = b"".join(self.application(environ, start_response))
            return [whole[: len(whole) // 2]]
        return self.application(environ, start_response)


@contextmanager
def s3_server():
    """(front, storage options, endpoint) of a server with a bucket `bucket`."""
    front = Front(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, front, threaded=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    options = {"key": "testing", "secret": SECRET, "endpoint_url": endpoint, **SOON}
    try:
        files = s3fs.S3FileSystem(**options)
        if files.exists("bucket"):
            files.rm("bucket", recursive=True)
        files.mkdir("bucket")
        yield front, options
    finally:
        front.released.set()
        server.shutdown()
        thread.join()


def cache_on(options, folder, url="s3://bucket/features", **more):
    """A cache of this server, with copies in a folder."""
    return fl.FeatureCache(url, storage_options=options, local_folder=folder, **more)


def without_waiting(monkeypatch):
    """Tries follow each other at once."""
    monkeypatch.setattr(shelf, "_wait", lambda seconds: None)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)

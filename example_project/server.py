"""The newsroom's server, in a process of its own: ``python -m example_project.server PORT``.

Writes the port it got as its first line, or why it got none. It lives as long as its standard
input stays open, so it cannot outlive whoever started it, however that ends.
"""

import os
import signal
import sys
import threading

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application


def main() -> None:
    # Ctrl-C reaches every process of the terminal; whoever started this one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")
    application = StaticFilesHandler(get_wsgi_application())
    try:
        server = ThreadedWSGIServer(("127.0.0.1", int(sys.argv[1])), WSGIRequestHandler)
    except (OSError, OverflowError) as error:
        print(getattr(error, "strerror", None) or error, flush=True)
        sys.exit(1)
    server.daemon_threads = True
    server.set_app(application)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.buffer.read()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()

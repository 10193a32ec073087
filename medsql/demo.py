"""A local web page that asks models side by side and browses runs: `python -m medsql.demo`."""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from medsql.composition import composed, explicit_keys
from medsql.config import CONF, DecodeSettings, DemoSettings, SettingsError
from medsql.door import door
from medsql.errors import UserError

log = logging.getLogger("medsql.demo")  # this module runs as `__main__`


@door("demo")
def main(settings: DemoSettings, folder: Path) -> None:
    """Serve the page until Ctrl-C."""
    if importlib.util.find_spec("gradio") is None:
        raise UserError("Gradio is not installed: make demo installs it, or pip install -e '.[demo]'")
    stay_local(settings.host)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks its own server whether it is there
    from medsql.page.asking import Models
    from medsql.page.layout import CSS, make_page, theme

    hydra = HydraConfig.get()
    typed = list(hydra.overrides.task)
    chosen = str(hydra.runtime.choices["decode"])
    models = Models(settings, explicit_keys(typed), {**decodings(typed), chosen: settings.decode})
    models.load()
    page = make_page(models, chosen)
    try:
        _, url, _ = page.launch(
            theme=theme(),
            css=CSS,
            server_name=settings.host,
            server_port=settings.port,
            share=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:  # Gradio's own says no more than a range of ports
        raise UserError(f"port={settings.port} cannot be had at {settings.host}: choose another") from error
    log.info("the page is at %s until Ctrl-C", url)
    if not _is_loopback(settings.host):
        log.warning("host=%s: whoever reaches this machine can ask, without a password", settings.host)
    try:
        threading.Event().wait()
    finally:
        page.close(verbose=False)


def stay_local(host: str) -> None:
    """Keep Gradio from telling of itself, the Hub from being asked, and the page from being sought by proxy.

    A model that is not here yet takes `HF_HUB_OFFLINE=0`, which stays as it is.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), host, "localhost", "127.0.0.1")))


def decodings(typed: Sequence[str]) -> dict[str, DecodeSettings]:
    """Every option of `decode=` with what else was typed but beams, without those that contradict it."""
    others = [each for each in typed if not each.startswith(("decode=", "decode.num_beams="))]
    found = {}
    for option in sorted(file.stem for file in (CONF / "decode").glob("*.yaml")):
        try:
            found[option] = composed("demo", *others, f"decode={option}").decode
        except SettingsError as error:
            log.warning("decode=%s cannot be chosen on the page: %s", option, error)
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    main()

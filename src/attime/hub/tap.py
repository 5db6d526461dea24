"""The one place where attime gets between a model and its attention: while a tap is open, calls of
`scaled_dot_product_attention` at chosen sites go through it, and all others straight on.

Nothing is patched: a tap is a torch function mode and hooks on the modules of its sites, and leaves the model as it was. Modes
are of one thread: in others, a site that begins to compute brings the mode along.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode

from attime.control.call import Call
from attime.control.contract import Control
from attime.control.steering import steered
from attime.errors import AttimeError
from attime.hub.geometry import Geometry
from attime.hub.located import owners, sites
from attime.hub.running import Running, Thread, hidden_states, packed, this_thread, unpacked
from attime.hub.sdpa import use_sdpa
from attime.site import Chosen, Site, select

__all__ = ["Listener", "Tap"]


class Listener:
    """Somebody at some sites: controls that change calls, or a watcher that looks at them afterwards."""

    def __init__(self, model: object, where: Chosen) -> None:
        self.model, self.sites = model, select(sites(model), where)
        self._taps: list[Tap] = []

    def open(self) -> None:
        """Begin to listen."""
        if self._taps:
            raise AttimeError(
                f"this {type(self).__name__} is open already: leave its `with` before it is entered again."
            )
        try:
            for owner, root in owners(self.model).items():
                prefix = f"{owner}." if owner else ""
                own = {site.name.removeprefix(prefix): site for site in self.sites if site.name.startswith(prefix)}
                if own:
                    tap = Tap.of(root)
                    tap.join(self, own)
                    self._taps.append(tap)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop; the last one to leave a model closes its tap."""
        while self._taps:
            self._taps.pop().leave(self)

    def __enter__(self) -> "Listener":
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def controls(self, call: Call) -> list[tuple[Control, dict[str, Any]]]:
        """Controls that act on this call, with their notes."""
        return []

    explicit: bool = False
    """Outputs must be computed from the map."""

    def see(self, call: Call, out: Tensor) -> None:
        """Look at what the call has become."""


class Tap(TorchFunctionMode):
    """Everybody who listens to one model; a model has one tap at most."""

    _open: "WeakKeyDictionary[nn.Module, Tap]" = WeakKeyDictionary()

    @classmethod
    def of(cls, root: nn.Module) -> "Tap":
        """The model's tap; a new one, which opens when somebody joins, if there is none."""
        return cls._open.get(root) or cls(root)

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.root = root
        self.geometry = Geometry(root)
        self._here: dict[str, list[tuple[Listener, Site]]] = {}
        self._hooks: dict[str, list[Any]] = {}
        self._thread, self._home = Thread(), this_thread()
        self._eager: list[Any] = []

    def join(self, listener: Listener, own: dict[str, Site]) -> None:
        """Hear of the calls of these modules, after everybody who is there already."""
        self._eager += use_sdpa(self.root, own)
        if not self._here:
            self._open[self.root] = self
            self.geometry.open()
            self._home = this_thread()
            self.__enter__()
        for path, site in own.items():
            if path not in self._hooks:
                module = self.root.get_submodule(path)
                self._here[path] = []
                self._hooks[path] = [
                    module.register_forward_pre_hook(self._enters(path), with_kwargs=True),
                    module.register_forward_hook(self._leaves(path), always_call=True),
                    self.root.get_submodule(path.rpartition(".")[0]).register_forward_pre_hook(
                        self._begins(path), with_kwargs=True
                    ),
                ]
            self._here[path].append((listener, site))

    def leave(self, listener: Listener) -> None:
        """Hear no more."""
        for path in list(self._here):
            self._here[path] = [each for each in self._here[path] if each[0] is not listener]
            if not self._here[path]:
                del self._here[path]
                for hook in self._hooks.pop(path):
                    hook.remove()
        if not self._here:
            self._go()
            self.geometry.close()
            for config in self._eager:
                config._attn_implementation = "eager"
            self._eager = []
            del self._open[self.root]

    def _go(self) -> None:
        """Take the mode from the stack, wherever in it: blocks may end in another order than they began."""
        above = list[Any]()
        while this_thread() == self._home and (mode := _pop_mode()) is not self:
            above.append(mode)
        for mode in reversed(above):
            _push_mode(mode)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self._thread.running:
            self._thread.running[-1].calls += 1
            return self._attend(*args, **kwargs)
        return func(*args, **kwargs)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        now = self._thread.running[-1]
        here = self._here[now.path]
        plain: dict[str, Any] = {"dropout_p": dropout_p, "is_causal": is_causal, "scale": scale}
        given, given_mask = query, attn_mask
        site = here[0][1]
        if packed(query, now.hidden, site):
            query = unpacked(query)
            attn_mask = attn_mask if attn_mask is None or attn_mask.shape[1] == 1 else unpacked(attn_mask)
        shared = key.shape[1] != query.shape[1]
        repeated = query.shape[1] // key.shape[1]
        call = Call(
            site=site,
            step=max(0, self.geometry.step),
            q=query,
            k=key.repeat_interleave(repeated, 1) if shared else key,
            v=value.repeat_interleave(repeated, 1) if shared else value,
            scale=query.shape[-1] ** -0.5 if scale is None else scale,
            mask=attn_mask,
            causal=is_causal,
            layout=self.geometry.layout(site, query.shape[0], query.shape[2]),
            visual=self.geometry.visual(site, key.shape[2]),
            hidden=now.hidden,
            stream=now.stream,
            rotary=now.rotary,
        )
        controls = [each for listener, _ in here for each in listener.controls(call)]

        def fast(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if q is query and k is call_k and v is call_v:
                out = F.scaled_dot_product_attention(given, key, value, given_mask, enable_gqa=enable_gqa, **plain)
                return out.reshape(*query.shape[:-1], out.shape[-1])
            return F.scaled_dot_product_attention(q, k, v, attn_mask, **plain)

        call_k, call_v = call.k, call.v
        out = steered(call, controls, fast, explicit=any(listener.explicit for listener, _ in here))
        for listener, own in here:
            call.site = own
            listener.see(call, out)
        return out.reshape(*given.shape[:-1], out.shape[-1])

    def _enters(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            turned = kwargs.get("position_embeddings")
            rotary = turned if isinstance(turned, tuple) and turned[0].ndim == 3 else None
            stream = self._thread.streams.pop(path, None)
            self._thread.running.append(Running(path, hidden_states(args, kwargs), rotary, stream))
            if this_thread() != self._home:
                self.__enter__()

        return hook

    def _begins(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = hidden_states(args, kwargs)
            if hidden is not None:
                self._thread.streams[path] = hidden

        return hook

    def _leaves(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            running = self._thread.running
            if not running or running[-1].path != path:  # another hook failed before this module began
                return
            if this_thread() != self._home:
                self.__exit__(None, None, None)
            if not running.pop().calls and output is not None:
                raise AttimeError(
                    f"{path} ran without torch's scaled_dot_product_attention, so nobody can look at it or steer it: give the "
                    f"model the sdpa attention (set_attn_implementation('sdpa'), or AttnProcessor2_0 in diffusers)."
                )

        return hook

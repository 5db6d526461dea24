"""The one place where attime gets between a model and its attention: while a tap is open, calls of
`scaled_dot_product_attention` at chosen sites go through it, and all others straight on.

Nothing is patched: a tap is a torch function mode and hooks on the modules of its sites, and leaves the model as it was.
"""

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from attime.control.contract import Call, Control, steered
from attime.errors import AttimeError
from attime.hub.geometry import Geometry
from attime.hub.located import owners, sites
from attime.site import Site, Where, select

__all__ = ["Chosen", "Listener", "Tap"]

Chosen = Where | str | Site | Iterable[Site] | None
"""What `where=` takes; see `attime.site.select`."""


class Listener:
    """Somebody at some sites: controls that change calls, or a watcher that looks at them afterwards."""

    def __init__(self, model: object, where: Chosen) -> None:
        self.model, self.sites = model, select(sites(model), where)
        self._taps: list[Tap] = []

    def open(self) -> None:
        """Begin to listen."""
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
        self._running: list[tuple[str, Tensor | None, tuple[Tensor, Tensor] | None]] = []
        self._streams: dict[str, Tensor] = {}
        self._calls = 0
        self._eager: list[Any] = []

    def join(self, listener: Listener, own: dict[str, Site]) -> None:
        """Hear of the calls of these modules, after everybody who is there already."""
        self._use_sdpa(own)
        if not self._here:
            self._open[self.root] = self
            self.geometry.open()
            self.__enter__()
        for path, site in own.items():
            if path not in self._hooks:
                module = self.root.get_submodule(path)
                self._here[path] = []
                self._hooks[path] = [
                    module.register_forward_pre_hook(self._enters(path), with_kwargs=True),
                    module.register_forward_hook(self._leaves, always_call=True),
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
            self.__exit__(None, None, None)
            self.geometry.close()
            for config in self._eager:
                config._attn_implementation = "eager"
            self._eager = []
            del self._open[self.root]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self._running:
            self._calls += 1
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
        path, hidden, rotary = self._running[-1]
        here = self._here[path]
        plain: dict[str, Any] = {"dropout_p": dropout_p, "is_causal": is_causal, "scale": scale}
        given, given_mask = query, attn_mask
        site = here[0][1]
        if _packed(query, hidden, site):
            query = _unpacked(query)
            attn_mask = attn_mask if attn_mask is None or attn_mask.shape[1] == 1 else _unpacked(attn_mask)
        shared = key.shape[1] != query.shape[1]
        repeated = query.shape[1] // key.shape[1]
        call = Call(
            site=site,
            step=self.geometry.step,
            q=query,
            k=key.repeat_interleave(repeated, 1) if shared else key,
            v=value.repeat_interleave(repeated, 1) if shared else value,
            scale=query.shape[-1] ** -0.5 if scale is None else scale,
            mask=attn_mask,
            causal=is_causal,
            layout=self.geometry.layout(site, query.shape[0], query.shape[2]),
            visual=self.geometry.visual(site, key.shape[2]),
            hidden=hidden,
            stream=self._streams.get(path),
            rotary=rotary,
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
            self._running.append((path, _hidden(args, kwargs), rotary))
            self._calls = 0

        return hook

    def _begins(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = _hidden(args, kwargs)
            if hidden is not None:
                self._streams[path] = hidden

        return hook

    def _leaves(self, module: nn.Module, args: Any, output: Any) -> None:
        path, *_ = self._running.pop()
        self._streams.pop(path, None)
        if not self._calls and output is not None:
            raise AttimeError(
                f"{path} ran without torch's scaled_dot_product_attention, so nobody can look at it or steer it: give the "
                f"model the sdpa attention (set_attn_implementation('sdpa'), or AttnProcessor2_0 in diffusers)."
            )

    def _use_sdpa(self, own: Iterable[str]) -> None:
        """Models of transformers compute attention by torch's own function as long as the tap is open."""
        others: dict[int, Any] = {}
        for path, model in self.root.named_modules():
            if isinstance(model, PreTrainedModel) and any(site.startswith(path) for site in own):
                name = model.config._attn_implementation
                if name not in ("sdpa", "eager"):
                    raise AttimeError(
                        f"{type(model).__name__} computes attention by {name!r}, which hides it: call "
                        f"set_attn_implementation('sdpa') first, or detach the memory."
                    )
                if name == "eager":
                    others[id(model.config)] = model.config  # several parts of a model may share one
        for config in others.values():
            self._eager.append(config)
            config._attn_implementation = "sdpa"


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The hidden states that a module is called with."""
    hidden = kwargs.get("hidden_states", args[0] if args else None)
    return hidden if isinstance(hidden, Tensor) else None


def _packed(query: Tensor, hidden: Tensor | None, site: Site) -> bool:
    """Whether the heads that share keys stand where queries do, as transformers has them for one token with a mask."""
    one = hidden is not None and hidden.ndim == 3 and hidden.shape[1] == 1
    return one and query.shape[1] < site.heads == query.shape[1] * query.shape[2]


def _unpacked(packed: Tensor) -> Tensor:
    """(batch shared heads dim) as (batch heads 1 dim)."""
    return packed.reshape(len(packed), -1, 1, packed.shape[-1])

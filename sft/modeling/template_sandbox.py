"""Jinja's sandbox with a bound on time and on what a chat template makes, for templates come from anywhere.

transformers renders in Jinja's ImmutableSandboxedEnvironment, which keeps a template off the machine but lets
it run and grow for ever: two loops of 100,000 rounds, 'a' * 10**10, `|center(10**9)`. Nothing interrupts a
single call into C, and a thread has no timer of its own, so the environment here looks at the clock at every
round of a loop and every call, and at sizes before what is known to multiply them. It needs no signal, thread
or process. Blocks with a filter, which no published template has, are refused: they would pass by it.
"""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateRuntimeError, TemplateSyntaxError
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context
from jinja2.visitor import NodeTransformer

SECONDS = 10.0  # of a rendering; those of real templates and rows take a thousandth of one
# Characters (an entry of a list counts as 8) that a rendering makes in sum. Templates make each text some
# five times.
WORK = 256 << 20
_LARGE = 100_000  # an argument, such as a width; as Jinja's own limit on range
_LONG = 1 << 20  # a text or list that only what takes time in proportion is applied to
_BITS = 4_096
_LINEAR = frozenset(
    [
        "abs",
        "capitalize",
        "casefold",
        "count",
        "d",
        "default",
        "dictsort",
        "e",
        "endswith",
        "escape",
        "find",
        "first",
        "float",
        "get",
        "index",
        "int",
        "isalnum",
        "isalpha",
        "isdigit",
        "isspace",
        "items",
        "keys",
        "last",
        "length",
        "list",
        "lower",
        "lstrip",
        "map",
        "partition",
        "pop",
        "reject",
        "rejectattr",
        "removeprefix",
        "removesuffix",
        "reverse",
        "rfind",
        "rindex",
        "round",
        "rpartition",
        "rsplit",
        "rstrip",
        "safe",
        "select",
        "selectattr",
        "sort",
        "split",
        "splitlines",
        "startswith",
        "string",
        "strip",
        "title",
        "tojson",
        "trim",
        "unique",
        "upper",
        "values",
    ]
)
_OF_DICT = frozenset(dir(dict))
_WIDE = re.compile(r"\d{6}|\*")


class TemplateLimit(TemplateRuntimeError):
    """A rendering takes longer, or makes more, than any real one does."""


class _Budget:
    def __init__(self) -> None:
        self.left, self.end = WORK, time.monotonic() + SECONDS

    def make(self, size: int) -> None:
        """Count what is made."""
        self.left -= size
        if self.left < 0:
            raise TemplateLimit(f"makes more than {WORK >> 20} MiB of text")

    def spend(self, size: int) -> None:
        """Count what is made, and look at the clock."""
        self.make(size)
        if time.monotonic() > self.end:
            raise TemplateLimit(f"takes more than {SECONDS:.0f} seconds")


class _BoundContext(Context):
    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.budget = _Budget()

    def derived(self, locals: dict[str, Any] | None = None) -> "_BoundContext":
        """Return a context for a block: of the same rendering."""
        context: Any = super().derived(locals)
        context.budget = self.budget
        return context


class _Rounds:
    """What a loop goes through; the text that stands in its body counts at each round."""

    def __init__(self, budget: _Budget, values: Any, text: int) -> None:
        self._budget, self._values, self._cost = budget, values, 1 + text

    def __iter__(self) -> Iterator[Any]:
        spend, cost = self._budget.spend, self._cost
        for value in self._values:
            spend(cost)
            yield value

    def __len__(self) -> int:
        return len(self._values)


class _Wrapped(NodeTransformer):
    """Has what the sandbox does not see, such as loops and filters, go through the environment's methods."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        node.iter = _asked("rounds", node, node.iter, nodes.Const(text))
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if node.node is None:
            raise TemplateSyntaxError("blocks with a filter are not rendered", node.lineno)
        call: Any = _asked("filtered", node, nodes.Const(node.name), node.node, *node.args)
        call.kwargs, call.dyn_args, call.dyn_kwargs = node.kwargs, node.dyn_args, node.dyn_kwargs
        return call

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _asked("joined", node, *node.nodes)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        ends = (node.arg.start, node.arg.stop, node.arg.step)
        return _asked("sliced", node, node.node, *(end or nodes.Const(None) for end in ends))

    def visit_List(self, node: Any) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        is_plain = (
            all(isinstance(item, nodes.Const) for item in node.items) or getattr(node, "ctx", "") == "store"
        )
        return node if is_plain else _asked("made", node, node)

    visit_Dict = visit_Tuple = visit_List  # noqa: N815


def _asked(name: str, at: nodes.Node, *args: Any) -> nodes.Call:
    """Make the call of a method of the environment, with the rendering's context."""
    environment: Any = at.environment
    call = nodes.Call(nodes.EnvironmentAttribute(name), [nodes.ContextReference(), *args], [], None, None)
    for node in (call, call.node, *call.args):
        node.set_lineno(at.lineno).set_environment(environment)
    return call


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Raises TemplateLimit where a rendering takes longer than SECONDS or makes more than WORK."""

    context_class = _BoundContext
    intercepted_binops = frozenset(["*", "**", "+", "%"])

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.finalize = _printed

    def _parse(self, *args: Any) -> nodes.Template:
        return _Wrapped().visit(super()._parse(*args))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return a key of a mapping, sooner than Jinja does: that pays for what is looked at here."""
        if type(obj) is dict and attribute in obj and attribute not in _OF_DICT:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator to what does not multiply to more than the rendering may make."""
        if operator == "+":
            context.budget.make(_size(left) + _size(right))
            return left + right
        if operator == "%" and isinstance(left, str):
            _check_format(context.budget, left, right if isinstance(right, tuple) else (right,))
        elif operator == "**" or (operator == "*" and isinstance(left, int) and isinstance(right, int)):
            bits = [side.bit_length() if isinstance(side, int) else 1 for side in (left, right)]
            if (bits[0] * abs(right) if operator == "**" else sum(bits)) > _BITS:
                raise TemplateLimit("computes numbers of too many digits")
        elif operator == "*":
            one, times = (left, right) if isinstance(right, int) else (right, left)
            context.budget.spend(_size(one) * max(times, 0) if isinstance(times, int) else 1)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call what a template calls: a method, a macro, a global function."""
        # Jinja has a function of its own instead of a text's `format`.
        subject = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
        if (
            subject is __self
        ):  # what _Wrapped has put there; variables of loops and blocks come with every call
            kwargs.pop("_loop_vars", None)
            kwargs.pop("_block_vars", None)
            return __obj(*args, **kwargs)
        name = getattr(__obj, "__name__", "")
        if name != "safe_range":
            _check(__context.budget, name, subject, args, kwargs, method=True)
        result = super().call(__context, __obj, *args, **kwargs)
        __context.budget.spend(_size(result))
        return result

    def call_filter(
        self, name: str, value: Any, args: Any = None, kwargs: Any = None, *of: Any, **more: Any
    ) -> Any:
        """Apply a filter by its name, as `map` does too."""
        context: Any = of[0] if of else more.get("context")
        _check(context.budget, name, value, args or (), kwargs or {})
        result = super().call_filter(name, value, args, kwargs, *of, **more)
        context.budget.spend(_size(result))
        return result

    def filtered(self, context: Any, name: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Apply a filter."""
        return self.call_filter(name, value, args, kwargs, context, context.eval_ctx)

    def rounds(self, context: Any, values: Any, text: int) -> Any:
        """Return what a loop goes through."""
        return values if isinstance(values, Undefined) else _Rounds(context.budget, values, text)

    def joined(self, context: Any, *parts: Any) -> str:
        """Put texts behind one another: Jinja's ~."""
        texts = [part if isinstance(part, str) else self._text(context, part) for part in parts]
        context.budget.make(sum(map(len, texts)))
        return "".join(texts)

    def _text(self, context: Any, value: Any) -> str:
        context.budget.make(_printed_size(value))
        return str(value)

    def sliced(self, context: Any, value: Any, start: Any, stop: Any, step: Any) -> Any:
        """Return a part of a text or list."""
        context.budget.make(_size(value))
        return value[start:stop:step]

    def made(self, context: Any, value: Any) -> Any:
        """Return a new list or mapping, if what it holds over and over is not too much to be printed."""
        context.budget.spend(1)
        _printed_size(value)
        return value


@pass_context
def _printed(context: Any, value: Any) -> Any:
    context.budget.make(len(value) if isinstance(value, str) else _printed_size(value))
    return value


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return 8 * len(value) + 1 if isinstance(value, list | tuple | dict) else 1


def _printed_size(value: Any) -> int:
    """Return about how many characters a value has written out, what it holds twice counted twice."""
    if isinstance(value, str):
        return len(value)
    if not isinstance(value, list | tuple | dict):
        return 8
    size = _tree(value, {}, 0)
    if size > WORK:
        raise TemplateLimit(f"makes more than {WORK >> 20} MiB of text")
    return size


def _tree(value: Any, known: dict[int, int], depth: int) -> int:
    if isinstance(value, str):
        return len(value) + 2
    if not isinstance(value, list | tuple | Mapping):
        return 8
    if id(value) not in known:
        if depth > 200:
            raise TemplateLimit("nests lists too deeply")
        inner = [*value, *value.values()] if isinstance(value, Mapping) else value
        known[id(value)] = 2 + sum(_tree(one, known, depth + 1) for one in inner)
    return known[id(value)]


def _check(budget: _Budget, name: str, subject: Any, args: Any, kwargs: Any, method: bool = False) -> None:
    """Raise TemplateLimit for a method of a text, or a filter, that would make more than may be made."""
    given = [*args, *kwargs.values()]
    is_text = isinstance(subject, str)
    if name in _LINEAR and not given and name not in ("tojson", "string"):
        return
    for value in given:
        if isinstance(value, int) and abs(value) > _LARGE and name not in ("d", "default"):
            raise TemplateLimit(f"calls {name or 'a function'} with the number {value:.3g}")
    texts = [len(value) for value in given if isinstance(value, str)]
    widest = max([1, *texts, *(abs(value) for value in given if isinstance(value, int))])
    if name in ("replace", "indent", "wordwrap", "expandtabs", "translate") and is_text:
        times = subject.count(given[0]) if name == "replace" and given and isinstance(given[0], str) else None
        lines = subject.count("\n") + 1 if name == "indent" else len(subject) + 1
        budget.spend(len(subject) + (lines if times is None else times) * widest)
        if name == "translate":
            raise TemplateLimit("calls translate")
    elif name == "join":
        between, values = (
            (subject, given[0] if given else ()) if method else (given[0] if given else "", subject)
        )
        if isinstance(values, list | tuple):
            budget.spend(_printed_size(values) + _size(between) * len(values))
        elif len(str(between)) > 1_000:
            raise TemplateLimit("joins with a text of more than 1,000 characters")
    elif name in ("format", "format_map", "strftime_now", "strftime"):
        _check_format(
            budget, subject if is_text else next((v for v in given if isinstance(v, str)), ""), given
        )
    elif name == "sum" and any(isinstance(value, list) for value in given):
        raise TemplateLimit("adds up lists")
    elif name == "tojson":
        budget.spend(_printed_size(subject) * (1 + (min(widest, _LARGE) if given else 0)))
    elif (
        not method
        and isinstance(subject, list | tuple | dict)
        and name in ("string", "pprint", "e", "escape")
    ):
        budget.spend(_printed_size(subject))
    elif name not in _LINEAR and (is_text or isinstance(subject, list | tuple)) and len(subject) > _LONG:
        raise TemplateLimit(f"calls {name} with a text or list of {len(subject):,}")


def _check_format(budget: _Budget, form: str, values: Any) -> None:
    """Raise TemplateLimit where a format has a width of a million, or repeats a text to too much."""
    if _WIDE.search(form):
        raise TemplateLimit("formats to a width of too many characters")
    longest = max((_printed_size(value) for value in values), default=0)
    budget.spend(
        len(form) + (form.count("%") + form.count("{")) * (longest + _LARGE if "{:{" in form else longest)
    )

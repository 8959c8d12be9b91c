"""Renders the templates of this folder with Jinja2 as transformers sets it up, and writes cases.json.gz and expressions.json."""
import datetime, gzip, json, jinja2, jinja2.ext, pathlib
from jinja2.sandbox import ImmutableSandboxedEnvironment

here = pathlib.Path(__file__).parent


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
env.globals["strftime_now"] = lambda form: datetime.datetime(2026, 3, 7, 9, 5, 2).strftime(form)

user = {"role": "user", "content": "  What is 2 + 2?\n"}
answer = {"role": "assistant", "content": " It's 4. "}
system = {"role": "system", "content": "You are \"short\".  "}
more = {"role": "user", "content": "And <b>3 × 3</b> 🙂?"}
thought = {"role": "assistant", "content": "<think>\nthree threes\n</think>\n\n9"}
call = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": [2.5, None, True], "s": "é\n\"q\""}}}]}
result = {"role": "tool", "content": "{\"sum\": 3.5}"}
tools = [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {
    "a": {"type": "number"}, "b": {"type": ["array", "null"], "default": 1e-7}, "c": {"type": "object", "properties": {"d": {"type": "string", "default": "x"}}}}}}}]
conversations = {
    "one": ([user], None), "system": ([system, user], None), "turns": ([user, answer, more], None), "all": ([system, user, answer, more, thought, user], None),
    "thought": ([user, thought], None), "tools": ([system, user], tools), "calls": ([user, call, result, answer], tools), "two-users": ([user, more], None), "nobody": ([], None),
}
cases = []
for path in sorted(here.glob("*.jinja")):
    template = env.from_string(path.read_text())
    for name, (messages, given) in conversations.items():
        for prompt in (False, True):
            case = {"template": path.name, "name": name, "messages": messages, "tools": given, "add_generation_prompt": prompt}
            try:
                case["text"] = template.render(messages=messages, tools=given, documents=None, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>")
            except jinja2.exceptions.TemplateError as error:
                case["error"] = str(error)
            except TypeError as error:
                case["error"] = "type"
            cases.append(case)

expressions = [line for line in (here / "expressions.txt").read_text().split("\n") if line]
values = {"s": "Hello, wörld", "n": 7, "r": 2.5, "l": [3, 1, 2], "m": {"b": 1, "a": {"x": [1, 2]}, "items": 5}, "t": True, "z": None, "e": "", "w": ["b", "A", "c", "a"],
          "people": [{"name": "Ann", "age": 30, "ok": True}, {"name": "bob", "age": 25, "ok": False}, {"name": "Cy", "age": 30}]}
rendered = []
for source in expressions:
    case = {"source": source}
    try:
        case["text"] = env.from_string(source.replace("\\n", "\n") if source.startswith("@") else source).render(values)
    except Exception as error:
        case["error"] = type(error).__name__
    rendered.append(case)
(here / "cases.json.gz").write_bytes(gzip.compress((json.dumps(cases, ensure_ascii=False, indent=0) + "\n").encode(), 9, mtime=0))
(here / "expressions.json").write_text(json.dumps({"values": values, "cases": rendered}, ensure_ascii=False, indent=0) + "\n")

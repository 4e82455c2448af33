"""`moderator shell-init`: the code that a shell evaluates for completion, and for a `moderator cd` that really goes there.

A program cannot change the directory of the shell that started it, so a function stands in front of it and does.  What can
be completed is decided by `completing`, for all shells; which commands and options there are is found out here, once, and
goes into the code: at a TAB there is no time for it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

import click

from moderator.cli import completing
from moderator.cli.output import print_bytes

if TYPE_CHECKING:
    from moderator.cli.completing import Node

SHELLS = ("bash", "zsh", "fish")
_KINDS = {
    "task": completing.TASK,
    "tasks": completing.TASK,
    "variant": completing.TASK,
    "removed": completing.REMOVED,
    "rescue": completing.REMOVED,
    "rescues": completing.REMOVED,
    "tasks_file": completing.FILE,
    "place": completing.FOLDER,
    "command": completing.COMMAND,
}
"""What the arguments of our commands are, by their names in the code."""
_METAVARS = {"FILE": completing.FILE, "DIR": completing.FOLDER}

_FUNCTION = """\
moderator() {
    if [ "${1-}" != cd ]; then
        {program} "$@"
        return
    fi
    shift
    local argument directory
    for argument in "$@"; do
        case $argument in -h | --help | --print)
            {program} cd "$@"
            return
        esac
    done
    directory=$({program} cd --print "$@" && printf x) || return
    builtin cd -- "${directory%?x}"
}
"""
_BASH = """\
_moderator() {
    local reply what=
    COMPREPLY=()
    while IFS= read -r -d '' reply; do
        if [ -z "$what" ]; then what=$reply; else COMPREPLY+=("$reply"); fi
    done < <({completing} bash "$COMP_LINE" "$COMP_POINT" "$COMP_WORDBREAKS" 2>/dev/null)
    case $what in
        +files) compopt -o default ;;
        +folders) compopt -o dirnames ;;
        +commands) while IFS= read -r reply; do COMPREPLY+=("$reply"); done < <(compgen -c -- "${COMP_WORDS[COMP_CWORD]}") ;;
    esac 2>/dev/null
}
complete -F _moderator moderator
"""
_ZSH = """\
_moderator() {
    local line
    local -a found names texts
    found=("${(@f)$({completing} zsh "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    case ${found[1]-} in
        +files) _files ;;
        +folders) _files -/ ;;
        +commands) _command_names -e ;;
        *)
            for line in "${(@)found[2,-1]}"; do
                names+=("${line%%$'\\t'*}")
                texts+=("${line/$'\\t'/  -- }")
            done
            if [[ "$names" != "$texts" ]]; then
                compadd -l -d texts -a -- names
            else
                compadd -a -- names
            fi
            ;;
    esac
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
compdef _moderator moderator
"""
_FISH = """\
function moderator
    if test "$argv[1]" != cd
        {program} $argv
        return
    end
    for argument in $argv[2..-1]
        if contains -- $argument -h --help --print
            {program} $argv
            return
        end
    end
    set -l directory ({program} cd --print $argv[2..-1])
    or return
    cd (string join \\n -- $directory | string collect)
end
function __moderator_complete
    set -l found ({completing} fish (commandline -opc) (commandline -ct) 2>/dev/null)
    switch "$found[1]"
        case +files
            __fish_complete_path (commandline -ct)
        case +folders
            __fish_complete_directories (commandline -ct)
        case +commands
            __fish_complete_command
        case '*'
            string join \\n -- $found[2..-1]
    end
end
complete -c moderator -e
complete -c moderator -f -a '(__moderator_complete)'
"""


@click.command("shell-init")
@click.argument("shell", type=click.Choice(SHELLS))
def shell_init_command(shell: str) -> None:
    """Print what SHELL evaluates to complete moderator's command lines and to let moderator cd change its directory.

    In ~/.bashrc or ~/.zshrc: eval "$(moderator shell-init bash)", in ~/.config/fish/config.fish: moderator shell-init fish |
    source.
    """
    print_bytes(os.fsencode(code_for(shell)))


def code_for(shell: str) -> str:
    """Return the code that a shell evaluates."""
    from moderator.cli import commands

    quoted = _quoted_for_fish if shell == "fish" else shlex.quote
    program = " ".join(map(quoted, _program())) if _program()[0] != "command" else "command moderator"
    helper = [sys.executable, "-I", "-S", "-c", completer(described(commands, click.Context(commands)))]
    template = {"bash": _FUNCTION + _BASH, "zsh": _FUNCTION + _ZSH, "fish": _FISH}[shell]
    filled = {"program": program, "completing": " ".join(map(quoted, helper))}
    for name, text in filled.items():
        template = template.replace(f"{{{name}}}", text)
    return template


def completer(table: Node) -> str:
    """Return the program that answers a TAB: `completing`, imported alone and compiled once, and the table as Python reads it."""
    folder = os.path.dirname(os.path.abspath(completing.__file__))
    return f"import sys\nsys.path.append({folder!r})\nimport completing\ncompleting.run({table!r})"


def described(command: click.Command, context: click.Context) -> Node:
    """Return what `completing` has to know of a command and of those below it."""
    options: dict[str, str | list[str]] = {}
    arguments: list[str | list[str]] = []
    many = False
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Argument):
            arguments.append(_choices(parameter) or _KINDS.get(str(parameter.name), completing.VALUE))
            many = parameter.nargs == -1
        elif isinstance(parameter, click.Option) and not parameter.hidden:
            metavar = _METAVARS.get(parameter.metavar or "", completing.VALUE)
            kind = completing.FLAG if parameter.is_flag else _choices(parameter) or metavar
            options |= dict.fromkeys((*parameter.opts, *parameter.secondary_opts), kind)
    arguments += [completing.COMMAND] if getattr(command, "takes_command", False) else []
    below: dict[str, Node] = {}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if (one := command.get_command(context, name)) is not None:
                below[name] = described(one, click.Context(one, info_name=name, parent=context))
    return {
        "help": command.get_short_help_str(limit=80), "options": options, "arguments": arguments, "many": many, "commands": below,
    }  # fmt: skip


def _choices(parameter: click.Parameter) -> list[str]:
    return list(parameter.type.choices) if isinstance(parameter.type, click.Choice) else []


def _program() -> list[str]:
    """Return what starts this program: its name where the shell finds it under that, otherwise where it is."""
    if sys.argv[0].endswith("__main__.py"):
        return [sys.executable, "-m", "moderator"]
    called, found = os.path.abspath(sys.argv[0]), shutil.which("moderator")
    same = found is not None and os.path.realpath(found) == os.path.realpath(called)
    return ["command", "moderator"] if same or not os.path.exists(called) else [called]


def _quoted_for_fish(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'"

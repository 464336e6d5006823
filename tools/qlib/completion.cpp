#include "command.hpp"

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/recipe/flags.hpp>
#include <qlib/version.hpp>

#include <map>
#include <memory>
#include <vector>

namespace qlib::program {

namespace {

using words = std::vector<std::string>;

/// One flag of a command, with all its names.
struct completed_flag {
  words names;  ///< without dashes
  std::string help;
  bool takes_value = false;
  words values;  ///< empty: any, or a file
};

struct completed_command {
  std::string name, help;
  std::vector<completed_flag> flags;
  words arguments;  ///< values of its positional argument; empty: files
};

words words_of(auto&& names) {
  words out;
  for (const auto& n : names) out.emplace_back(n);
  return out;
}

/// Flags that take one of few words.
const std::map<std::string, words>& closed_values() {
  static const std::map<std::string, words> values{
      {"quant_type", words_of(built_quant_types())},
      {"format", words_of(registry::formats::names())},
      {"observer", words_of(weight_observers())},
      {"rounder", words_of(registry::rounders::names())},
      {"compat", {"none", "llmcompressor", "msmodelslim"}},
      {"log_level", {"error", "warning", "info", "debug"}},
      {"engine", {"vllm-ascend", "mindie", "vllm", "vllm-gcu"}},
      {"metric", {"auto", "kl", "mse", "range"}},
      {"phase", {"decode", "prefill"}},
      {"disable_level", {"L0", "L1", "L2", "L3", "L4", "L5"}},
      {"act_method", {"1", "2", "3"}},
  };
  return values;
}

const words& shells() {
  static const words names{"bash", "zsh", "fish"};
  return names;
}

std::vector<completed_command> commands_of(const CLI::App& app) {
  std::vector<completed_command> out;
  for (const CLI::App* c : app.get_subcommands([](const CLI::App*) { return true; })) {
    completed_command command{.name = c->get_name(), .help = c->get_description(), .flags = {}, .arguments = {}};
    if (command.name == "completion") command.arguments = shells();
    for (const CLI::Option* o : c->get_options()) {
      completed_flag flag{.names = o->get_lnames(), .help = o->get_description(), .takes_value = o->get_items_expected_min() > 0, .values = {}};
      if (flag.names.empty()) continue;
      if (const auto at = closed_values().find(flag.names.front()); at != closed_values().end() && flag.takes_value) flag.values = at->second;
      command.flags.push_back(std::move(flag));
    }
    out.push_back(std::move(command));
  }
  return out;
}

std::string joined(const words& all, std::string_view before, std::string_view between = " ") {
  std::string text;
  for (const std::string& w : all) text += (text.empty() ? "" : std::string{between}) + std::string{before} + w;
  return text;
}

/// `text` with a backslash before each of `special`.
std::string escaped(const std::string& text, std::string_view special) {
  std::string out;
  for (const char ch : text) {
    if (special.find(ch) != special.npos) out += '\\';
    out += ch;
  }
  return out;
}

/// Inside single quotes of zsh, where nothing can be escaped.
std::string zsh_quoted(const std::string& text) {
  std::string out = "'";
  for (const char ch : text) {
    if (ch == '\'') out += "'\\''";
    else out += ch;
  }
  return out + "'";
}

void print_bash(const std::vector<completed_command>& commands) {
  fmt::print("# bash completion of qlib " QLIB_VERSION
             "\n"
             "_qlib() {{\n"
             "  local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command='' choice='' i\n"
             "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
             "    case ${{COMP_WORDS[i]}} in -*) ;; *) command=${{COMP_WORDS[i]}}; break ;; esac\n"
             "  done\n"
             "  # --flag=value is three words\n"
             "  if [[ $word == = ]]; then word=''\n"
             "  elif [[ $previous == = ]]; then previous=${{COMP_WORDS[COMP_CWORD-2]}}\n"
             "  fi\n"
             "  # --save-path is --save_path\n"
             "  if [[ $previous == --* ]]; then previous=${{previous:2}} previous=--${{previous//-/_}}; fi\n"
             "  if [[ $word == --?* ]]; then word=${{word:2}} word=--${{word//-/_}}; fi\n"
             "  COMPREPLY=()\n"
             "  case \"$command $previous\" in\n");
  for (const completed_command& c : commands)
    for (const completed_flag& f : c.flags) {
      if (!f.takes_value) continue;
      std::string pattern;
      for (const std::string& n : f.names) pattern += (pattern.empty() ? "" : " | ") + fmt::format("'{} --{}'", c.name, n);
      if (f.values.empty()) fmt::print("    {}) return ;;\n", pattern);  // a file
      else fmt::print("    {}) choice='{}' ;;\n", pattern, joined(f.values, ""));
    }
  fmt::print(
      "  esac\n"
      "  if [[ -z $choice ]]; then\n"
      "    case $command in\n");
  words names;
  for (const completed_command& c : commands) names.push_back(c.name);
  fmt::print("      '') choice='{} --help --version' ;;\n", joined(names, ""));
  for (const completed_command& c : commands) {
    words flags;
    for (const completed_flag& f : c.flags) flags.insert(flags.end(), f.names.begin(), f.names.end());
    if (c.arguments.empty()) fmt::print("      {}) [[ $word == -* ]] && choice='{}' ;;\n", c.name, joined(flags, "--"));
    else fmt::print("      {}) choice='{} {}' ;;\n", c.name, joined(c.arguments, ""), joined(flags, "--"));
  }
  fmt::print(
      "    esac\n"
      "  fi\n"
      "  COMPREPLY=($(compgen -W \"$choice\" -- \"$word\"))\n"
      "}}\n"
      "complete -o bashdefault -o default -F _qlib qlib\n");
}

void print_zsh(const std::vector<completed_command>& commands) {
  fmt::print(
      "#compdef qlib\n"
      "# zsh completion of qlib " QLIB_VERSION
      "\n"
      "_qlib() {{\n"
      "  local -a commands\n"
      "  commands=(\n");
  for (const completed_command& c : commands) fmt::print("    {}\n", zsh_quoted(c.name + ":" + escaped(c.help, ":\\")));
  fmt::print(
      "  )\n"
      "  if (( CURRENT == 2 )); then\n"
      "    _describe command commands\n"
      "    return\n"
      "  fi\n"
      "  shift words\n"
      "  (( CURRENT-- ))\n"
      "  case $words[1] in\n");
  for (const completed_command& c : commands) {
    fmt::print("    {})\n      _arguments", c.name);
    for (const completed_flag& f : c.flags)
      for (const std::string& n : f.names) {
        std::string spec = "--" + n + (f.takes_value ? "=" : "") + "[" + escaped(f.help, "[]\\") + "]";
        if (f.takes_value) spec += ":" + n + ":" + (f.values.empty() ? "_files" : "(" + joined(f.values, "") + ")");
        fmt::print(" \\\n        {}", zsh_quoted(spec));
      }
    fmt::print(" \\\n        {} ;;\n", zsh_quoted(c.arguments.empty() ? "*:file:_files" : "1:shell:(" + joined(c.arguments, "") + ")"));
  }
  fmt::print(
      "  esac\n"
      "}}\n"
      "if [[ $funcstack[1] == _qlib ]]; then _qlib \"$@\"; else compdef _qlib qlib; fi\n");
}

void print_fish(const std::vector<completed_command>& commands) {
  const auto quoted = [](const std::string& text) { return "'" + escaped(text, "'\\") + "'"; };
  fmt::print("# fish completion of qlib " QLIB_VERSION "\ncomplete -c qlib -n __fish_use_subcommand -f\n");
  fmt::print("complete -c qlib -n __fish_use_subcommand -l help\ncomplete -c qlib -n __fish_use_subcommand -l version\n");
  for (const completed_command& c : commands) {
    fmt::print("complete -c qlib -n __fish_use_subcommand -a {} -d {}\n", c.name, quoted(c.help));
    const std::string here = fmt::format("complete -c qlib -n '__fish_seen_subcommand_from {}'", c.name);
    if (!c.arguments.empty()) fmt::print("{} -f -a {}\n", here, quoted(joined(c.arguments, "")));
    for (const completed_flag& f : c.flags)
      fmt::print("{} {}{}{} -d {}\n", here, joined(f.names, "-l "), f.takes_value ? f.values.empty() ? " -r -F" : " -x" : "",
                 f.values.empty() ? "" : " -a " + quoted(joined(f.values, "")), quoted(f.help));
  }
}

}  // namespace

void declare_completion(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("completion", "print a script that completes commands and flags: bash, zsh or fish");
  auto shell = std::make_shared<std::string>();
  c->add_option("shell", *shell, "bash, zsh or fish")->required();
  c->footer(
      "Examples:\n"
      "  source <(qlib completion bash)\n"
      "  qlib completion zsh > ~/.zfunc/_qlib\n"
      "  qlib completion fish > ~/.config/fish/completions/qlib.fish");
  c->callback([shell, &app, &exit_code] {
    const std::vector<completed_command> commands = commands_of(app);
    if (*shell == "bash") print_bash(commands);
    else if (*shell == "zsh") print_zsh(commands);
    else if (*shell == "fish") print_fish(commands);
    else
      exit_code = report_error(
          {.where = "qlib completion", .subject = *shell, .problem = "is not a shell known here", .remedy = "use " + joined(shells(), "", ", ")});
  });
}

}  // namespace qlib::program

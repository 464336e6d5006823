#pragma once
#include <qlib/tokenizer/ruby_classes.hpp>

#include <string>
#include <utility>

namespace qlib::inline v0 {
namespace text {

QLIB_INLINE std::string_view ruby_class(std::string_view name, bool posix) {
  constexpr std::pair<std::string_view, std::string_view> classes[] = {
      {"alpha",
       R"(\p{Alphabetic}\x{363}-\x{36f}\x{c04}\x{f82}\x{f83}\x{1dd3}-\x{1de6}\x{11080}\x{11081})"},  // and what is alphabetic since Unicode 15
      {"alphabetic", R"(\p{Alphabetic}\x{363}-\x{36f}\x{c04}\x{f82}\x{f83}\x{1dd3}-\x{1de6}\x{11080}\x{11081})"},
      {"alnum", R"(\p{Alphabetic}\x{363}-\x{36f}\x{c04}\x{f82}\x{f83}\x{1dd3}-\x{1de6}\x{11080}\x{11081}\p{Nd})"},
      {"digit", R"(\p{Nd})"},
      {"space", R"(\p{White_Space})"},
      {"lower", R"(\p{Lowercase}\x{10fc}\x{a7f2}-\x{a7f4}\x{ab69})"},
      {"lowercase", R"(\p{Lowercase}\x{10fc}\x{a7f2}-\x{a7f4}\x{ab69})"},
      {"upper", R"(\p{Uppercase})"},
      {"blank", R"(\t\p{Zs})"},
      {"cntrl", R"(\p{Cc})"},
      {"xdigit", "0-9A-Fa-f"},
      {"graph", R"(^\p{Cn}\p{Cs}\p{Cc}\p{Z})"},
      {"print", R"(^\p{Cn}\p{Cs}\p{Cc}\p{Zl}\p{Zp})"},
      {"ascii", R"(\x00-\x7f)"},
      {"any", R"(\x{0}-\x{10ffff})"},
      {"assigned", R"(\P{Cn})"},
      {"letter", R"(\p{L})"},
      {"uppercaseletter", R"(\p{Lu})"},
      {"lowercaseletter", R"(\p{Ll})"},
      {"titlecaseletter", R"(\p{Lt})"},
      {"casedletter", R"(\p{Lu}\p{Ll}\p{Lt})"},
      {"lc", R"(\p{Lu}\p{Ll}\p{Lt})"},
      {"modifierletter", R"(\p{Lm})"},
      {"otherletter", R"(\p{Lo})"},
      {"mark", R"(\p{M})"},
      {"combiningmark", R"(\p{M})"},
      {"nonspacingmark", R"(\p{Mn})"},
      {"spacingmark", R"(\p{Mc})"},
      {"enclosingmark", R"(\p{Me})"},
      {"number", R"(\p{N})"},
      {"decimalnumber", R"(\p{Nd})"},
      {"letternumber", R"(\p{Nl})"},
      {"othernumber", R"(\p{No})"},
      {"punctuation", R"(\p{P})"},
      {"connectorpunctuation", R"(\p{Pc})"},
      {"dashpunctuation", R"(\p{Pd})"},
      {"openpunctuation", R"(\p{Ps})"},
      {"closepunctuation", R"(\p{Pe})"},
      {"initialpunctuation", R"(\p{Pi})"},
      {"finalpunctuation", R"(\p{Pf})"},
      {"otherpunctuation", R"(\p{Po})"},
      {"symbol", R"(\p{S})"},
      {"mathsymbol", R"(\p{Sm})"},
      {"currencysymbol", R"(\p{Sc})"},
      {"modifiersymbol", R"(\p{Sk})"},
      {"othersymbol", R"(\p{So})"},
      {"separator", R"(\p{Z})"},
      {"spaceseparator", R"(\p{Zs})"},
      {"lineseparator", R"(\p{Zl})"},
      {"paragraphseparator", R"(\p{Zp})"},
      {"other", R"(\p{C})"},
      {"control", R"(\p{Cc})"},
      {"format", R"(\p{Cf})"},
      {"unassigned", R"(\p{Cn})"},
      {"privateuse", R"(\p{Co})"},
      {"surrogate", R"(\p{Cs})"},
  };
  if (name == "word") return ruby_word_class;
  if (name == "punct") return posix ? R"(\p{P}\p{S})" : R"(\p{P})";
  for (const auto& [known, members] : classes)
    if (known == name) return members;
  return {};
}

QLIB_INLINE bool shared_property(std::string_view name) {
  constexpr std::string_view names =
      " l lu ll lt lm lo m mn mc me n nd nl no p pc "
      "pd ps pe pi pf po s sm sc sk so z zs zl zp c "
      "cc cf cn co cs uppercase whitespace emoji ideographic math dash hexdigit asciihexdigit diacritic extender cased "
      "caseignorable idstart idcontinue xidstart xidcontinue emojipresentation emojimodifier emojimodifierbase emojicomponent extendedpictographic "
      "quotationmark terminalpunctuation unifiedideograph variationselector regionalindicator joincontrol "
      "defaultignorablecodepoint graphemebase graphemeextend noncharactercodepoint patternwhitespace patternsyntax radical softdotted "
      "sentenceterminal ";
  return names.find(" " + std::string{name} + " ") != names.npos;
}

}  // namespace text
}  // namespace qlib::inline v0

// @ts-check
import js from "@eslint/js";
import globals from "globals";

// Text from servers, models and speech goes into the page: as text, never as markup.
const MARKUP = ["innerHTML", "outerHTML", "insertAdjacentHTML"].map((property) => ({
  property,
  message: "Use textContent, or make elements.",
}));

export default [
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2022, sourceType: "module" },
    rules: {
      eqeqeq: "error",
      "max-len": ["error", { code: 100, ignoreUrls: true }],
      "no-restricted-properties": ["error", ...MARKUP],
      "no-unused-vars": ["error", { argsIgnorePattern: "^_", caughtErrors: "all" }],
      "no-var": "error",
      "prefer-const": "error",
    },
  },
  {
    files: ["webui_patch/**/*.js"],
    ignores: ["webui_patch/*-worklet.js"],
    languageOptions: { globals: globals.browser },
  },
  {
    files: ["webui_patch/*-worklet.js"],
    languageOptions: { globals: globals.audioWorklet },
  },
  {
    files: ["tests/webui/**/*.mjs"],
    languageOptions: { globals: { ...globals.node, ...globals.browser, ...globals.audioWorklet } },
  },
  {
    files: ["tests/support/**/*.js", "tests/browser/**/*.js"],
    languageOptions: { globals: { ...globals.browser, ...globals.audioWorklet } },
  },
  {
    files: ["eslint.config.js"],
    languageOptions: { globals: globals.node },
  },
];

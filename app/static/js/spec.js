/** From the fields of the form to the body of `POST /jobs`: what is left at its default is left out. */

export const START = {
  base_model: "auto", mode: "auto", until: "", freeze: "none", controls: "auto",
  epochs: "", batch_size: "", learning_rate: "", optimizer: "adamw", max_seconds: "", unknown: false, name: "", alias: "", seed: "",
};
const UNKNOWN_FALSE_ACCEPT = 0.01; // one in a hundred other sounds may be taken for a word

/** Whether the choice of base model has trained weights, which a speech model could carry over; `backbones` as the API lists them. */
export function hasWeights(values, backbones) {
  return values.base_model === START.base_model || backbones.find((row) => row.id === values.base_model)?.kind !== "architecture";
}

/** Returns the body. Only speech models carry layers over, and only those that do can be compared with one from scratch. */
export function specOf(values, { speech, weights }) {
  const compared = weights && values.mode !== "none";
  const numbers = ["epochs", "batch_size", "learning_rate", "max_seconds"];
  const given = numbers.filter((field) => values[field] !== "");
  const hyperparameters = Object.fromEntries(given.map((field) => [field, Number(values[field])]));
  if (values.optimizer !== START.optimizer) hyperparameters.optimizer = values.optimizer;
  return withoutEmpty({
    dataset: values.dataset,
    base_model: values.base_model === "auto" ? undefined : values.base_model,
    transfer: speech && weights ? transferOf(values) : {},
    hyperparameters,
    evaluation: speech ? evaluationOf({ ...values, controls: compared ? values.controls : "none" }) : {},
    name: values.name.trim(),
    alias: values.alias.trim(),
    seed: values.seed === "" ? undefined : Number(values.seed),
  });
}

function transferOf({ mode, until, freeze }) {
  const carries = mode === "full" || mode === "partial";
  return {
    ...(mode === "auto" ? {} : { mode }),
    ...(mode === "partial" && until ? { until } : {}),
    ...(carries && freeze !== "none" ? { freeze } : {}),
  };
}

function evaluationOf({ controls, unknown }) {
  return {
    ...(controls === "none" ? {} : { controls }),
    ...(unknown ? { unknown_false_accept: UNKNOWN_FALSE_ACCEPT } : {}),
  };
}

function withoutEmpty(body) {
  const empty = (value) => value === undefined || value === "" || (typeof value === "object" && !Object.keys(value).length);
  return Object.fromEntries(Object.entries(body).filter(([, value]) => !empty(value)));
}

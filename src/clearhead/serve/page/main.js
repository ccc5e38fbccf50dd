/** The page begins here: language and colours, the five tabs, then the models of the server. */

import { startComplete } from "./complete.js";
import { startInside } from "./inside.js";
import { startLab } from "./lab.js";
import { startLanguage } from "./language.js";
import { loadModels, startModels } from "./models.js";
import { startRuns } from "./runs.js";
import { startTabs } from "./tabs.js";
import { startTheme } from "./theme.js";
import { startTranslate } from "./translate.js";

startModels();
startTranslate();
startComplete();
startInside();
startRuns();
startLab();
startTheme();
startLanguage();
startTabs();
loadModels();

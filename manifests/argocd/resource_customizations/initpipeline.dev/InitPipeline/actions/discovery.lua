-- rerun is disabled while suspended: the run would start at the resumption, which starts one anyway.
local suspended = obj.spec.suspend == true
return {
  ["rerun"] = {["disabled"] = suspended, ["iconClass"] = "fa fa-fw fa-redo"},
  ["suspend"] = {["disabled"] = suspended, ["iconClass"] = "fa fa-fw fa-pause"},
  ["resume"] = {["disabled"] = not suspended, ["iconClass"] = "fa fa-fw fa-play"},
}

-- A token starts one run. The time in seconds is new, unless the last request was in this second.
local os = require("os")
local name = "initpipeline.dev/rerun"

local annotations = obj.metadata.annotations or {}
local token = os.time()
local last = tonumber(annotations[name])
if last and last >= token and last < token + 60 then
  token = last + 1
end

annotations[name] = tostring(token)
obj.metadata.annotations = annotations
return obj
